/* Stands in for NVIDIA's management library: GPUs are as busy as the file says that
 * STAND_IN_NVML names, a number for each, or fail with a code: "error 3", or never answer: "hang".
 * The first has 1 GiB of its memory taken, the second 2 GiB and so on.
 * https://docs.nvidia.com/deploy/nvml-api/
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 16, NVML_SUCCESS = 0, NVML_ERROR_UNKNOWN = 999 };

typedef struct { unsigned long long time, value; } sample;
typedef struct { unsigned int gpu, memory; } rates;
typedef struct { unsigned long long total, free, used; } memory;

static int read_all(unsigned int *uses, unsigned int *count)
{
    int code = NVML_ERROR_UNKNOWN;
    char word[8];
    FILE *file = fopen(getenv("STAND_IN_NVML"), "r");
    *count = 0;
    if (!file)
        return code;
    if (fscanf(file, "error %d", &code) == 1) {
        fclose(file);
        return code;
    }
    rewind(file);
    if (fscanf(file, "%7s", word) == 1 && !strcmp(word, "hang"))
        for (;;)
            pause();
    rewind(file);
    while (*count < MOST && fscanf(file, "%u", &uses[*count]) == 1)
        ++*count;
    fclose(file);
    return NVML_SUCCESS;
}

const char *nvmlErrorString(int code)
{
    static char text[32];
    snprintf(text, sizeof text, "error %d", code);
    return text;
}

int nvmlInit_v2(void) { return NVML_SUCCESS; }

int nvmlDeviceGetCount_v2(unsigned int *count)
{
    unsigned int uses[MOST];
    return read_all(uses, count);
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int number, void **device)
{
    *device = (void *)(unsigned long)(number + 1);
    return NVML_SUCCESS;
}

int nvmlDeviceGetName(void *device, char *text, unsigned int length)
{
    snprintf(text, length, "NVIDIA Stand-in");
    return NVML_SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *device, memory *found)
{
    unsigned int uses[MOST], known;
    int code = read_all(uses, &known);
    found->total = 80ULL << 30;
    found->used = (unsigned long long)(unsigned long)device << 30;
    found->free = found->total - found->used;
    return code;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts)
{
    unsigned int uses[MOST], known;
    *milliwatts = 100500;
    return read_all(uses, &known);
}

int nvmlDeviceGetSamples(void *device, int type, unsigned long long last, int *kind,
                         unsigned int *count, sample *samples)
{
    unsigned int uses[MOST], known;
    int code = read_all(uses, &known);
    if (code)
        return code;
    *kind = 1;
    *count = 1;
    if (samples) {
        samples[0].time = last + 1;
        samples[0].value = uses[(unsigned long)device - 1];
    }
    return NVML_SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *device, rates *found)
{
    unsigned int uses[MOST], known;
    int code = read_all(uses, &known);
    if (code == NVML_SUCCESS)
        found->gpu = uses[(unsigned long)device - 1];
    return code;
}
