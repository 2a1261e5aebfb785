/* A GPU that computes nothing: what PyTorch calls of CUDA's runtime and driver, of cuBLAS and of NCCL.

   Its memory is the host's, and kernels are not run: it holds zeros and what was copied there. What it does is to know
   which memory is whose, and to refuse, while it is told to, what would make the host wait. Functions that have nothing
   to say are not here: build.py writes one that returns success for each that PyTorch asks for. */

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- What a test asks of it ---- */

enum { GPUS = 8 };

static int refuses;       /* whether waiting is an error now; for events too if it is 2 */
static int used[GPUS];    /* whether this process did anything on a GPU */
static long kernels;      /* that were not run, but for those of libraries */
static long exchanges[3]; /* by NCCL: sums over all processes, pieces to all, sums in pieces */

void nullgpu_refuse_waiting(int how) { refuses = how; }
int nullgpu_used(int device) { return used[device]; }
long nullgpu_kernels(void) { return kernels; }
long nullgpu_exchanges(int kind) { return exchanges[kind]; }

/* ---- GPUs ---- */

static _Thread_local int current;

static int count(void) {
    const char *told = getenv("NULLGPU_DEVICES");
    return told ? atoi(told) : 1;
}

cudaError_t cudaGetDeviceCount(int *number) { *number = count(); return cudaSuccess; }
cudaError_t cudaGetDevice(int *device) { *device = current; return cudaSuccess; }

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= count()) return cudaErrorInvalidDevice;
    used[current = device] = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *gpu, int device) { /* of an H100 */
    *gpu = (struct cudaDeviceProp){
        .name = "null GPU", .major = 9, .minor = 0, .pciBusID = device + 1,
        .multiProcessorCount = 132, .warpSize = 32, .totalGlobalMem = 80ul << 30, .l2CacheSize = 50 << 20,
        .maxThreadsPerMultiProcessor = 2048, .maxBlocksPerMultiProcessor = 32, .maxThreadsPerBlock = 1024,
        .maxThreadsDim = {1024, 1024, 64}, .maxGridSize = {2147483647, 65535, 65535},
        .sharedMemPerBlock = 49152, .sharedMemPerBlockOptin = 232448, .sharedMemPerMultiprocessor = 233472,
        .regsPerBlock = 65536, .regsPerMultiprocessor = 65536, .textureAlignment = 512, .memoryBusWidth = 5120,
        .unifiedAddressing = 1, .canMapHostMemory = 1, .concurrentKernels = 1, .managedMemory = 1,
    };
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
const char *cudaGetErrorName(cudaError_t error) { return "an error of the null GPU"; }

const char *cudaGetErrorString(cudaError_t error) {
    if (error == cudaErrorNotPermitted) return "the null GPU was to be waited for";
    return error == cudaErrorInvalidDevice ? "invalid device ordinal" : "an error of the null GPU";
}

/* ---- Memory: of a GPU, or page-locked; all other is pageable ---- */

typedef struct { char *begin; size_t size; enum cudaMemoryType kind; int device; } Memory;

enum { MOST = 65536 };
static Memory given[MOST];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static Memory find(const void *pointer) { /* what a pointer points into; of no size where it was not given here */
    Memory found = {.kind = cudaMemoryTypeUnregistered, .device = -2};
    const char *at = pointer;
    pthread_mutex_lock(&lock);
    for (Memory *one = given; one < given + MOST && one->kind; one++)
        if (at >= one->begin && at < one->begin + one->size) found = *one;
    pthread_mutex_unlock(&lock);
    return found;
}

static cudaError_t give(void **pointer, size_t size, enum cudaMemoryType kind) {
    Memory *one = given;
    used[current] = 1;
    if (posix_memalign(pointer, 4096, size)) return cudaErrorMemoryAllocation;
    memset(*pointer, 0, size);
    pthread_mutex_lock(&lock);
    while (one->size) one++;
    *one = (Memory){*pointer, size, kind, current};
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

static cudaError_t take(void *pointer) {
    pthread_mutex_lock(&lock);
    for (Memory *one = given; one < given + MOST && one->kind; one++)
        if (one->size && one->begin == pointer) one->size = 0;
    pthread_mutex_unlock(&lock);
    free(pointer);
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **pointer, size_t size) { return give(pointer, size, cudaMemoryTypeDevice); }
cudaError_t cudaHostAlloc(void **pointer, size_t size, unsigned how) { return give(pointer, size, cudaMemoryTypeHost); }
cudaError_t cudaFree(void *pointer) { return take(pointer); }
cudaError_t cudaFreeHost(void *pointer) { return take(pointer); }
cudaError_t cudaMemGetInfo(size_t *left, size_t *all) { *left = 70ul << 30; *all = 80ul << 30; return cudaSuccess; }

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *about, const void *pointer) {
    Memory memory = find(pointer);
    *about = (struct cudaPointerAttributes){.type = memory.kind, .device = memory.device};
    if (memory.size) about->devicePointer = (void *)pointer;
    if (memory.kind != cudaMemoryTypeDevice) about->hostPointer = (void *)pointer;
    return cudaSuccess;
}

/* ---- Copies and waiting ---- */

static cudaError_t waits(void) { return refuses ? cudaErrorNotPermitted : cudaSuccess; }

static cudaError_t copy(void *to, const void *from, size_t size) {
    Memory target = find(to), source = find(from);
    memcpy(to, from, size);
    return target.size && source.size ? cudaSuccess : waits(); /* a GPU cannot read pageable memory beside the host */
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t stream) {
    return copy(to, from, size);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind) {
    copy(to, from, size);
    return waits();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return waits(); }
cudaError_t cudaDeviceSynchronize(void) { return waits(); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return refuses == 2 ? waits() : cudaSuccess; }

/* ---- Streams, events and kernels ---- */

static void *handle(void) { /* another one each time */
    static long last = 0x1000;
    return (void *)__sync_add_and_fetch(&last, 16);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
    *stream = handle();
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) { *event = handle(); return cudaSuccess; }

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

/* `kernel<<<...>>>(...)` calls this first, and leaves out the launch if it says no. */
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st *stream) {
    __sync_add_and_fetch(&kernels, 1);
    return 1;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *about, const void *kernel) {
    *about = (struct cudaFuncAttributes){.maxThreadsPerBlock = 1024, .ptxVersion = 90, .binaryVersion = 90};
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr which, int device) {
    switch (which) { /* the driver has the same numbers for them */
        case cudaDevAttrMultiProcessorCount: *value = 132; break;
        case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = 49152; break;
        case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
        case cudaDevAttrWarpSize: *value = 32; break;
        case cudaDevAttrMaxGridDimX: *value = 2147483647; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 232448; break;
        case cudaDevAttrMaxRegistersPerBlock: *value = 65536; break;
        default: *value = 0;
    }
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *kernel, int threads,
                                                                   size_t shared, unsigned flags) {
    *blocks = 2;
    return cudaSuccess;
}

/* ---- The driver ---- */

static int nothing(void) { return 0; }

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version,
                                             unsigned long long flags, enum cudaDriverEntryPointQueryResult *found) {
    *function = (void *)nothing;
    return cudaSuccess;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    *active = used[device];
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context) { *context = (CUcontext)1; return CUDA_SUCCESS; }
CUresult cuCtxGetDevice(CUdevice *device) { *device = current; return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *version) { *version = CUDART_VERSION; return CUDA_SUCCESS; }

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device) {
    cudaDeviceGetAttribute(value, (enum cudaDeviceAttr)which, device);
    return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute which, CUfunction kernel) {
    *value = which == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
    return CUDA_SUCCESS;
}

/* Compiled kernels come by one of two ways. */
CUresult cuLaunchKernel(CUfunction kernel, unsigned x, unsigned y, unsigned z, unsigned of_x, unsigned of_y,
                        unsigned of_z, unsigned shared, CUstream stream, void **inputs, void **extra) {
    __sync_add_and_fetch(&kernels, 1);
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *how, CUfunction kernel, void **inputs, void **extra) {
    __sync_add_and_fetch(&kernels, 1);
    return CUDA_SUCCESS;
}

/* ---- cuBLAS and NCCL, whose headers PyTorch does not bring ---- */

int cublasLtMatmulAlgoGetHeuristic(void *cublas, void *product, void *a, void *b, void *c, void *d, void *preference,
                                   int asked, void *results, int *found) {
    *found = 1;
    return 0;
}

typedef struct { char bytes[128]; } Id;

static const int width[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2}; /* bytes of ncclInt8, ncclUint8, ncclInt32 to ncclBfloat16 */
static int processes;

int ncclCommInitRankConfig(void **group, int size, Id id, int rank, void *options) {
    processes = size;
    *group = handle();
    return 0;
}

static int exchange(int kind, void *buffer) { /* what comes in must have a place on this process's GPU */
    __sync_add_and_fetch(&exchanges[kind], 1);
    Memory place = find(buffer);
    return place.kind == cudaMemoryTypeDevice && place.device == current ? 0 : 4; /* ncclInvalidArgument */
}

int ncclAllReduce(const void *from, void *to) { return exchange(0, to); }
int ncclReduceScatter(const void *from, void *to) { return exchange(2, to); }

int ncclAllGather(const void *from, void *to, size_t number, int type) { /* as if all had what this one has */
    size_t size = number * width[type];
    for (int one = 0; one < processes; one++) memmove((char *)to + one * size, from, size);
    return exchange(1, to);
}

int ncclCommGetAsyncError(void *group, int *error) { *error = 0; return 0; }
int ncclGetVersion(int *version) { *version = 22809; return 0; }
const char *ncclGetErrorString(int error) { return "an error of the null GPU"; }
