"""What `thinwire doctor` looks at: one function a subject, which returns a `Check` or several."""

from __future__ import annotations

import ctypes
import fcntl
import importlib.metadata
import importlib.util
import os
import re
import resource
import runpy
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from thinwire import _core
from thinwire._version import __version__
from thinwire.cli._shaped import namespaces_refused

Status = Literal["ok", "note", "wrong"]

_MEMLOCK_ENOUGH = 64 << 20  # bytes; the largest size class of the host-memory pool
_SIOCGIFADDR = 0x8915
_IFF_UP = 1
_NEWEST_CUPY = 13  # CUDA's major version


@dataclass(frozen=True)
class Check:
    """One line of the report. `note`: something optional lacks. `wrong`: something will fail."""

    name: str
    status: Status
    value: str
    advice: str = ""
    details: dict[str, object] = field(default_factory=dict)


def _ok(name: str, value: str, **details: object) -> Check:
    return Check(name, "ok", value, details=details)


def _note(name: str, value: str, advice: str, **details: object) -> Check:
    return Check(name, "note", value, advice, details)


def _wrong(name: str, value: str, advice: str, **details: object) -> Check:
    return Check(name, "wrong", value, advice, details)


class Device(NamedTuple):
    """A CUDA device as the driver names it, with its compute capability."""

    name: str
    capability: tuple[int, int]


class Driver(NamedTuple):
    """The NVIDIA driver: the newest CUDA version it serves, and its devices."""

    cuda: tuple[int, int]
    devices: list[Device]


def check_version() -> Check:
    """The package. A native module of another version cannot get here: `import thinwire` refuses it."""
    compiler = str(_core.build_info()["compiler"])
    return _ok("thinwire", f"{__version__}, compiled by {compiler}", version=__version__, compiler=compiler)


def check_cpu() -> Check:
    """The CPU targets that this machine can run, and the one in use."""
    usable, active, cores = _core.targets(), _core.active_target(), len(os.sched_getaffinity(0))
    details = {"targets": usable, "active": active, "cores": cores}
    value = f"{', '.join(usable)}; in use: {active}; cores: {cores}"
    if active != usable[-1]:
        return _note("CPU targets", value, f"for {usable[-1]}, unset THINWIRE_FORCE_TARGET", **details)
    if usable == ["scalar"]:
        return _note("CPU targets", value, "a CPU with AVX2 or NEON codes several times faster", **details)
    return _ok("CPU targets", value, **details)


def check_cuda() -> list[Check]:
    """The CUDA kernels in the package, and the driver and devices beside them."""
    info = _core.build_info()
    archs = str(info["cuda_archs"]) if info["cuda"] else ""
    driver, reason = find_driver(), str(info["cuda_reason"])
    return [_check_kernels(archs, reason, driver), _check_driver(archs, reason, driver)]


def _check_kernels(archs: str, reason: str, driver: Driver | str) -> Check:
    details = {"built": bool(archs), "reason": reason, "architectures": archs.split()}
    if archs:
        return _ok("CUDA kernels", f"{reason}, for {archs}", **details)
    if isinstance(driver, str):
        return _note("CUDA kernels", f"none: {reason}", "not needed without a GPU", **details)
    advice = "put nvcc on the PATH and reinstall with THINWIRE_CUDA=ON; until then only CPU tensors are taken"
    return _note("CUDA kernels", f"none: {reason}", advice, **details)


def _check_driver(archs: str, reason: str, driver: Driver | str) -> Check:
    if isinstance(driver, str):
        return _note("NVIDIA driver", driver, "install it if this machine has an NVIDIA GPU")
    names = [f"{device.name} (sm_{device.capability[0]}{device.capability[1]})" for device in driver.devices]
    details = {"cuda": list(driver.cuda), "devices": names}
    value = f"serves CUDA {driver.cuda[0]}.{driver.cuda[1]}; {', '.join(names) or 'no device'}"
    built = re.search(r"CUDA (\d+)", reason)
    if archs and built and int(built[1]) > driver.cuda[0]:
        advice = f"install one that serves CUDA {built[1]}, or build with the toolkit of an older CUDA"
        return _wrong("NVIDIA driver", f"{value}; too old for kernels {reason}", advice, **details)
    foreign = [device.name for device in driver.devices if archs and not runs_on(archs, device.capability)]
    if foreign:
        advice = "reinstall from source with CMAKE_ARGS=-DCMAKE_CUDA_ARCHITECTURES=native"
        return _wrong("NVIDIA driver", f"{value}; no kernels for {', '.join(foreign)}", advice, **details)
    return _ok("NVIDIA driver", value, **details)


def find_driver() -> Driver | str:
    """Asks libcuda, without a toolkit or a context. A string says why there is no usable driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "none found (no libcuda.so.1)"
    status = cuda.cuInit(0)
    if status != 0:
        return f"found, but cuInit failed with error {status}"
    number = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(number))
    version = (number.value // 1000, number.value % 1000 // 10)
    cuda.cuDeviceGetCount(ctypes.byref(number))
    return Driver(version, [_read_device(cuda, i) for i in range(number.value)])


def _read_device(cuda: ctypes.CDLL, ordinal: int) -> Device:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGet(ctypes.byref(device), ordinal)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # COMPUTE_CAPABILITY_MAJOR
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)  # COMPUTE_CAPABILITY_MINOR
    return Device(name.value.decode(), (major.value, minor.value))


def runs_on(archs: str, capability: tuple[int, int]) -> bool:
    """Whether kernels built for `archs`, in CMake's notation ("80-real 90"), run on such a device."""
    for arch in archs.split():
        number, _, kind = arch.partition("-")
        built_for = divmod(int(number.rstrip("af")), 10)
        if kind != "real" and built_for <= capability:
            return True  # PTX, which the driver compiles for any newer device
        if kind != "virtual" and built_for[0] == capability[0] and built_for[1] <= capability[1]:
            return True
    return False


def check_torch() -> Check:
    """Whether PyTorch is there and as new as the extra `torch` asks. Reads files; does not import torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return _note("PyTorch", "not installed", "pip install 'thinwire[torch]' for thinwire.ddp")
    facts = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    version, cuda, floor = str(facts["__version__"]), facts.get("cuda"), torch_floor()
    details = {"version": version, "cuda": cuda}
    value = f"{version} ({f'CUDA {cuda}' if cuda else 'no CUDA'})"
    if _numbers(version) < _numbers(floor):
        return _wrong("PyTorch", f"{value}, older than {floor}", f"pip install 'torch>={floor}'", **details)
    return _ok("PyTorch", value, **details)


def torch_floor() -> str:
    """The oldest PyTorch that thinwire takes, as its own extra `torch` states it."""
    for requirement in importlib.metadata.requires("thinwire") or []:
        found = re.match(r"torch\s*>=\s*([\d.]+)", requirement)
        if found:
            return found.group(1)
    raise AssertionError("thinwire's metadata state no torch>=VERSION")


def _numbers(version: str) -> tuple[int, int]:
    major, minor = re.findall(r"\d+", version)[:2]
    return int(major), int(minor)


def check_cupy() -> Check:
    """Whether CuPy is there, once, in a build that the driver can run."""
    installed, driver = _installed_cupy(), find_driver()
    value = " and ".join(installed) or "not installed"
    details = {"installed": installed}
    if isinstance(driver, str):
        return _note("CuPy", value, "of use only with an NVIDIA GPU", **details)
    fitting = f"cupy-cuda{min(driver.cuda[0], _NEWEST_CUPY)}x"
    if not installed:
        return _note("CuPy", value, f"pip install 'thinwire[{fitting}]' to pass CuPy arrays", **details)
    if len(installed) > 1:
        advice = f"keep one: pip uninstall {' '.join(installed)}; pip install {fitting}"
        return _wrong("CuPy", value, advice, **details)
    needs = re.search(r"cuda(\d+)", installed[0])
    if needs and int(needs.group(1)) > driver.cuda[0]:
        advice = f"pip uninstall {installed[0]}; pip install {fitting}"
        return _wrong("CuPy", f"{value}, too new for this driver", advice, **details)
    return _ok("CuPy", value, **details)


def _installed_cupy() -> list[str]:
    names = {str(found.metadata["Name"]).lower() for found in importlib.metadata.distributions()}
    return sorted(name for name in names if re.fullmatch(r"cupy(-cuda\d+x)?", name))


def check_namespaces() -> Check:
    """Whether the demo can give every rank a network interface of its own, with its own rate."""
    refusal = namespaces_refused()
    if refusal is not None:
        return _note("shaped links", refusal, "until then the demo paces sockets")
    return _ok("shaped links", "user namespaces, veth, bridge and tc work")


def check_memlock() -> Check:
    """How much memory this user may lock, which bounds page-locked pools."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit == resource.RLIM_INFINITY:
        return _ok("locked memory", "unlimited", bytes=None)
    value = f"at most {limit / (1 << 20):g} MiB"
    if limit >= _MEMLOCK_ENOUGH:
        return _ok("locked memory", value, bytes=limit)
    advice = "to lock more: '* - memlock unlimited' in /etc/security/limits.conf; Docker: --ulimit memlock=-1"
    return _note("locked memory", value, advice, bytes=limit)


def check_interfaces() -> list[Check]:
    """Every network interface that is up, loopback left out, and whether other machines can find this one."""
    folder = Path("/sys/class/net")
    up = sorted(each.name for each in folder.glob("*") if each.name != "lo" and _is_up(each))
    checks = [_check_interface(folder / name) for name in up]
    if not checks:
        checks.append(_note("interfaces", "none but loopback is up", "all ranks must be on this machine"))
    return [*checks, _check_rendezvous(up)]


def _is_up(interface: Path) -> bool:
    return bool(int((interface / "flags").read_text(), 16) & _IFF_UP)


def _check_interface(interface: Path) -> Check:
    name, address, speed = f"link {interface.name}", _address(interface.name), _speed(interface)
    details = {"interface": interface.name, "ipv4": address, "mbit_per_s": speed}
    place = address or "no IPv4 address"
    if speed is None:
        return _note(name, f"{place}, speed unknown", "measure it with iperf3", **details)
    return _ok(name, f"{place}, {speed} Mbit/s", **details)


def _address(name: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def _speed(interface: Path) -> int | None:
    """Mbit/s, or None: virtual interfaces answer -1 or an error."""
    try:
        speed = int((interface / "speed").read_text())
    except OSError:
        return None
    return speed if speed > 0 else None


def _check_rendezvous(up: list[str]) -> Check:
    """The address Gloo will listen on: that of GLOO_SOCKET_IFNAME, else the one the host name stands for."""
    title, example = "Gloo listens on", f"export GLOO_SOCKET_IFNAME={up[0] if up else 'lo'}"
    chosen = os.environ.get("GLOO_SOCKET_IFNAME")
    if chosen:
        absent = sorted(set(chosen.split(",")) - {*up, "lo"})
        if absent:
            return _wrong(title, f"{chosen}, but {', '.join(absent)} is not up", example, interface=chosen)
        return _ok(title, f"{chosen} (GLOO_SOCKET_IFNAME)", interface=chosen)
    host = socket.gethostname()
    try:
        address = socket.gethostbyname(host)
    except OSError:
        address = "no address"
    value = f"{host}, which stands for {address}"
    if address == "no address" or address.startswith("127."):
        return _note(
            title, value, f"before training on several machines: {example}", host=host, address=address
        )
    return _ok(title, value, host=host, address=address)
