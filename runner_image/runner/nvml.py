"""The process that asks NVIDIA's management library: a driver that hangs takes whoever asks along.

https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
"""

ASK = """
import ctypes, json, sys
UTILIZATION = 1
class Sample(ctypes.Structure):
    _fields_ = [("time", ctypes.c_ulonglong), ("value", ctypes.c_ulonglong)]
class Rates(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]
class Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]
class Gpu:
    def __init__(self, number):
        self.handle, self.last = ctypes.c_void_p(), 0
        check(nvml.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(self.handle)))
        self.samples()
    def read(self):
        found = {"why": ""}
        try:
            uses = self.uses()
            found["mean"], found["most"] = sum(uses) / len(uses), max(uses)
        except OSError as error:
            found["why"] = str(error)
        memory, power = Memory(), ctypes.c_uint()
        if not ask("nvmlDeviceGetMemoryInfo", self.handle, ctypes.byref(memory)):
            found["memory"], found["total"] = memory.used, memory.total
        if not ask("nvmlDeviceGetPowerUsage", self.handle, ctypes.byref(power)):
            found["watts"] = power.value / 1000
        return found
    def name(self):
        text = ctypes.create_string_buffer(96)
        code = ask("nvmlDeviceGetName", self.handle, text, len(text))
        return "" if code else text.value.decode(errors="replace")
    def uses(self):
        samples = self.samples()
        if samples:
            return [each.value & 0xFFFFFFFF for each in samples]
        rates = Rates()
        check(nvml.nvmlDeviceGetUtilizationRates(self.handle, ctypes.byref(rates)))
        return [rates.gpu]
    def samples(self):
        kind, count, last = ctypes.c_int(), ctypes.c_uint(), ctypes.c_ulonglong(self.last)
        about = (self.handle, UTILIZATION, last, ctypes.byref(kind), ctypes.byref(count))
        if nvml.nvmlDeviceGetSamples(*about, None) or not count.value:
            return []
        found = (Sample * count.value)()
        if nvml.nvmlDeviceGetSamples(*about, found):
            return []
        samples = [each for each in found[: count.value] if each.time > self.last]
        self.last = max([self.last, *(each.time for each in samples)])
        return samples
def ask(function, *arguments):
    try:
        return getattr(nvml, function)(*arguments)
    except AttributeError:
        return -1
def check(code):
    if code:
        raise OSError("NVML says: " + nvml.nvmlErrorString(code).decode(errors="replace"))
def gpus():
    check(nvml.nvmlInit_v2())
    count = ctypes.c_uint()
    check(nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)))
    return [Gpu(number) for number in range(count.value)]
known = None
for line in sys.stdin:
    try:
        if known is None:
            nvml = ctypes.CDLL("libnvidia-ml.so.1")
            nvml.nvmlErrorString.restype = ctypes.c_char_p
            known = gpus()
        answer = {"gpus": [gpu.read() for gpu in known]}
        answer["name"] = known[0].name() if known else ""
    except (OSError, AttributeError) as error:
        answer = {"why": str(error)}
    print(json.dumps(answer), flush=True)
"""
"""Answers every line of its input with one of JSON.

Of every GPU: for how many per cent of the time since the last question a kernel ran, in the mean
and at most; how much memory is taken; what it draws; or why the first is unknown.
"""
