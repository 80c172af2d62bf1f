
import base64, hashlib, os, zipfile
NAME, VERSION, REQUIRES = 'localpkg', '0.3', ['alpha<2']

def _files():
    yield NAME + "/__init__.py", open(os.path.join(NAME, "__init__.py")).read()
    info = f"{NAME}-{VERSION}.dist-info"
    lines = ["Metadata-Version: 2.1", "Name: " + NAME, "Version: " + VERSION]
    lines += ["Requires-Dist: " + item for item in REQUIRES]
    yield info + "/METADATA", "\n".join(lines) + "\n"
    yield info + "/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    yield info + "/RECORD", ""

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_wheel(directory, config_settings=None, metadata_directory=None):
    filename = f"{NAME}-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, filename), "w") as archive:
        for name, content in _files():
            archive.writestr(name, content)
    return filename
