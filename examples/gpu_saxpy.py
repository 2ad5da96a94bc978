"""A kernel of one's own on a GPU, without any package: `squall run examples/gpu_saxpy.py --gpu H100`.

The container gets the device and the driver's libraries from its node; a small PTX program is compiled by the
driver and computes y = a*x + y over a million numbers. `squall status` lists the GPUs of a node by type.
"""

from __future__ import annotations

import ctypes
import time
from array import array

import squall

PTX = rb"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry saxpy(.param .f32 a, .param .u64 x, .param .u64 y, .param .u32 n)
{
    .reg .f32 %f<4>;
    .reg .b32 %r<6>;
    .reg .b64 %d<6>;
    .reg .pred %p;
    ld.param.f32 %f1, [a];
    ld.param.u64 %d1, [x];
    ld.param.u64 %d2, [y];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p, %r5, %r1;
    @%p bra done;
    mul.wide.u32 %d3, %r5, 4;
    add.u64 %d4, %d1, %d3;
    add.u64 %d5, %d2, %d3;
    ld.global.f32 %f2, [%d4];
    ld.global.f32 %f3, [%d5];
    fma.rn.f32 %f3, %f1, %f2, %f3;
    st.global.f32 [%d5], %f3;
done:
    ret;
}
"""

app = squall.App("gpu-saxpy")


class Cuda:
    """The driver's own interface: every call returns 0, or the number of an error."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", 0)
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)
        self.device = device

    def call(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise RuntimeError(f"{name} failed with CUDA error {code}")

    def devices(self) -> int:
        count = ctypes.c_int()
        self.call("cuDeviceGetCount", ctypes.byref(count))
        return count.value

    def name(self) -> str:
        text = ctypes.create_string_buffer(128)
        self.call("cuDeviceGetName", text, len(text), self.device)
        return text.value.decode()

    def upload(self, values: array[float]) -> ctypes.c_uint64:
        pointer, size = ctypes.c_uint64(), ctypes.c_size_t(len(values) * values.itemsize)
        self.call("cuMemAlloc_v2", ctypes.byref(pointer), size)
        self.call("cuMemcpyHtoD_v2", pointer, ctypes.c_void_p(values.buffer_info()[0]), size)
        return pointer


@app.cls(gpu="H100")
class Saxpy:
    @squall.enter()
    def load(self) -> None:
        self.cuda = Cuda()
        module, self.kernel = ctypes.c_void_p(), ctypes.c_void_p()
        self.cuda.call("cuModuleLoadData", ctypes.byref(module), PTX)
        self.cuda.call("cuModuleGetFunction", ctypes.byref(self.kernel), module, b"saxpy")

    @squall.method()
    def compute(self, a: float, count: int) -> tuple[str, int, float]:
        """The GPU's name, how many there are, and the sum of a*x + y: x repeats 0 to 7, y is 1."""
        x = array("f", [i % 8 for i in range(count)])
        y = array("f", [1.0]) * count
        on_gpu = self.cuda.upload(x), self.cuda.upload(y)
        values = (ctypes.c_float(a), *on_gpu, ctypes.c_uint32(count))
        pointers = (ctypes.c_void_p * 4)(*(ctypes.addressof(value) for value in values))
        grid = ((count + 255) // 256, 1, 1)
        self.cuda.call("cuLaunchKernel", self.kernel, *grid, 256, 1, 1, 0, None, pointers, None)
        target = ctypes.c_void_p(y.buffer_info()[0])
        self.cuda.call("cuMemcpyDtoH_v2", target, on_gpu[1], ctypes.c_size_t(4 * count))
        for pointer in on_gpu:
            self.cuda.call("cuMemFree_v2", pointer)
        return self.cuda.name(), self.cuda.devices(), sum(y)


@app.local_entrypoint()
def main(gpu: str = "H100", count: int = 1_000_000) -> None:
    saxpy = Saxpy.with_options(gpu=gpu)()
    for _ in range(3):
        begun = time.perf_counter()
        name, devices, total = saxpy.compute.remote(2.0, count)
        took = time.perf_counter() - begun
        print(f"{name} (one of {devices}): sum {total:.0f} in {took * 1000:.0f} ms")
