"""Builds ``pycnn._core``: one shared object from ``csrc/``, with OpenBLAS beside it.

The kernels (``csrc/ops/*.kernel.c`` and ``csrc/isa/table.c``) are compiled once for each
instruction set and each real type; everything else once.  All objects are compiled in parallel and
again only when a file they include, or their command line, has changed.

    python setup.py build_ext --inplace     the incremental rebuild in a checkout

Environment:

    CC, CFLAGS, LDFLAGS   as usual (the flags are appended)
    PCNN_WERROR=1         strict warnings, as errors
    PCNN_SANITIZE=...     "address,undefined" or "thread": a build for the sanitizers
    PCNN_EMULATE_AVX512=1 the AVX-512 kernels made of AVX2 instructions: a build for tests on
                          machines without AVX-512, slower than the AVX2 kernels
    PYCNN_SYSTEM_BLAS=1   links the OpenBLAS that pkg-config knows instead of the bundled one
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import setuptools

if int(setuptools.__version__.split(".")[0]) < 77:
    sys.exit(
        f"pycnn: building needs setuptools 77 or newer, this is {setuptools.__version__}: "
        "run `pip install --upgrade setuptools`"
    )

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, PlatformError

ROOT = Path(__file__).resolve().parent
SOURCE = Path("csrc")
PLAIN_FOLDERS = ("core", "graph", "plan", "blas", "ops", "isa", "python")
MACOS = sys.platform == "darwin"

X86_ISAS: dict[str, tuple[str, ...]] = {
    "baseline": (),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": (
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mfma",
        "-mprefer-vector-width=512",
    ),
}
# Vectors stay 64 bytes long (csrc/isa/emulated.h). -Wpsabi speaks of passing them in registers,
# but every function that takes one is inlined. Compiled with -O1, in a third of the time.
EMULATED_AVX512 = (*X86_ISAS["avx2"], "-Wno-psabi")
OTHER_ISAS: dict[str, tuple[str, ...]] = {"generic": ()}
REALS = ("f32", "f64")

# Numbers first: no contraction behind our back, no errno from math functions, nothing "fast".
COMMON_FLAGS = (
    "-std=gnu11",
    "-fPIC",
    "-pthread",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-Wformat",
    "-Werror=format-security",
    f"-I{SOURCE}",
)
PROBED_FLAGS = ("-fno-semantic-interposition", "-fstack-protector-strong")
STRICT_FLAGS = ("-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror")

NO_COMPILER = """\
pycnn is partly written in C and no C compiler was found (looked for {looked}).
  Debian, Ubuntu:  sudo apt-get install gcc python3-dev
  Fedora, RHEL:    sudo dnf install gcc python3-devel
  macOS:           xcode-select --install
or name one: CC=/path/to/cc pip install ."""
NO_PYTHON_H = """\
Python.h, the header of Python's C interface, is missing (expected in {include}).
  Debian, Ubuntu:  sudo apt-get install python3-dev
  Fedora, RHEL:    sudo dnf install python3-devel
  macOS:           xcode-select --install, or the installer from python.org"""
NO_WINDOWS = "pycnn does not build on Windows yet: use WSL (wsl --install), where it does."


@dataclasses.dataclass(frozen=True)
class Blas:
    """Where OpenBLAS comes from: how to compile and link against it, what to bundle."""

    compile_flags: tuple[str, ...]
    link_flags: tuple[str, ...]
    bundled: tuple[Path, ...] = ()
    bundled_dependencies: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True)
class Unit:
    """One object file: its source and the whole command that makes it."""

    source: Path
    target: Path
    command: tuple[str, ...]

    @property
    def depfile(self) -> Path:
        return self.target.with_suffix(".d")

    @property
    def stamp(self) -> Path:
        return self.target.with_suffix(".cmd")

    def is_fresh(self) -> bool:
        """Whether the object is newer than all it was made from, by the same command."""
        try:
            made = self.target.stat().st_mtime
            if self.stamp.read_text() != json.dumps(self.command):
                return False
            rule = self.depfile.read_text().replace("\\\n", " ")
            needed = shlex.split(rule.partition(":")[2])
            return all(os.stat(name).st_mtime < made for name in needed)
        except OSError:
            return False

    def compile(self) -> str:
        """Compile; return the compiler's warnings.  Raises CompileError with its errors."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.target.with_suffix(".new.o")
        done = subprocess.run(
            [*self.command, "-MMD", "-MF", str(self.depfile), "-c", str(self.source)]
            + ["-o", str(fresh)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise CompileError(f"{shlex.join(self.command)} -c {self.source}\n{done.stderr}")
        os.replace(fresh, self.target)
        self.stamp.write_text(json.dumps(self.command))
        return done.stderr


def is_set(name: str) -> bool:
    """Whether an environment variable asks for something."""
    return os.environ.get(name, "") not in ("", "0")


def run_quietly(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True)


def find_compiler() -> list[str]:
    """The C compiler's command: $CC, then Python's own, then what the system calls cc."""
    named = os.environ.get("CC")
    wanted = [named] if named else [sysconfig.get_config_var("CC") or "cc", "cc", "gcc", "clang"]
    for words in map(shlex.split, wanted):
        if words and shutil.which(words[0]):
            # Python's flags (-arch, -pthread) belong to how it was built, not to this machine.
            return words if named else words[:1]
    raise PlatformError(NO_COMPILER.format(looked=", ".join(dict.fromkeys(wanted))))


class Probe:
    """Tells which flags the compiler takes, by compiling a line of C."""

    def __init__(self, compiler: Sequence[str]) -> None:
        self.compiler = compiler

    def takes(self, flags: Sequence[str], code: str = "int main(void) { return 0; }\n") -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(code)
            command = [*self.compiler, "-Werror", *flags, "-c", str(source)]
            return run_quietly([*command, "-o", str(source.with_suffix(".o"))]).returncode == 0


def bundled_blas() -> Blas:
    """The OpenBLAS of the scipy-openblas32 package, to be copied into pycnn/.libs."""
    try:
        import scipy_openblas32
    except ImportError:
        raise PlatformError(
            "building needs OpenBLAS: `pip install scipy-openblas32==0.3.34.481.3` "
            "(pip install . does it by itself), or PYCNN_SYSTEM_BLAS=1 for the system's own"
        ) from None
    folder = Path(scipy_openblas32.get_lib_dir())
    libraries = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix == ".dylib" or ".so" in path.suffixes
    ]
    dependencies = sorted((folder.parent / ".dylibs").glob("*.dylib"))
    return Blas(
        compile_flags=(f"-I{scipy_openblas32.get_include_dir()}", "-DPCNN_BLAS_PREFIX=scipy_"),
        link_flags=(f"-l{scipy_openblas32.get_library()}",),
        bundled=tuple(libraries),
        bundled_dependencies=tuple(dependencies),
    )


def system_blas() -> Blas:
    """The OpenBLAS that pkg-config knows; its OpenMP build is refused."""
    if not shutil.which("pkg-config"):
        raise PlatformError("PYCNN_SYSTEM_BLAS=1 needs pkg-config, which was not found")
    asked = {}
    for option in ("--cflags", "--libs", "--variable=openblas_config", "--variable=libdir"):
        answer = run_quietly(["pkg-config", option, "openblas"])
        if answer.returncode:
            raise PlatformError(
                "PYCNN_SYSTEM_BLAS=1: pkg-config does not know openblas "
                f"({answer.stderr.strip()}); Debian: sudo apt-get install libopenblas-pthread-dev"
            )
        asked[option] = answer.stdout.strip()
    real = os.path.realpath(os.path.join(asked["--variable=libdir"], "libopenblas.so"))
    config = asked["--variable=openblas_config"]
    if "openmp" in real.lower() or "USE_OPENMP=1" in config:
        raise PlatformError(
            f"PYCNN_SYSTEM_BLAS=1: {real} is the OpenMP build of OpenBLAS, which hangs after "
            "fork(); install the pthreads or the serial build "
            "(Debian: sudo apt-get install libopenblas-pthread-dev)"
        )
    return Blas(
        compile_flags=(*shlex.split(asked["--cflags"]), "-DPCNN_SYSTEM_BLAS=1"),
        link_flags=tuple(shlex.split(asked["--libs"])),
    )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second build of the same tree waiting: both would write the same objects."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class BuildCore(build_ext):
    """Builds the one extension: probe, compile in parallel, bundle OpenBLAS, link."""

    editable_mode = False

    def run(self) -> None:
        if sys.platform == "win32":
            raise PlatformError(NO_WINDOWS)
        os.chdir(ROOT)
        inplace = bool(self.inplace or self.editable_mode)
        package = ROOT / "pycnn" if inplace else Path(self.build_lib, "pycnn").resolve()
        self.sanitize = os.environ.get("PCNN_SANITIZE", "")
        # Each kind of build keeps its own objects: going from one to another compiles nothing anew.
        self.emulated = is_set("PCNN_EMULATE_AVX512")
        variant = self.sanitize.replace(",", "-") or "release"
        variant += "-strict" if is_set("PCNN_WERROR") else ""
        variant += "-emulated" if self.emulated else ""
        objects = Path(self.build_temp, f"core-{variant}")
        with locked(objects):
            self.build(package, objects)

    def build(self, package: Path, objects: Path) -> None:
        self.compiler_command = find_compiler()
        self.probe = Probe(self.compiler_command)
        if not self.probe.takes(()):
            raise PlatformError(
                f"the C compiler {shlex.join(self.compiler_command)} cannot compile an empty "
                "program\n" + NO_COMPILER.format(looked=shlex.join(self.compiler_command))
            )
        include = Path(sysconfig.get_paths()["include"])
        if not (include / "Python.h").is_file():
            raise PlatformError(NO_PYTHON_H.format(include=include))
        blas = system_blas() if is_set("PYCNN_SYSTEM_BLAS") else bundled_blas()
        package.mkdir(parents=True, exist_ok=True)
        self.bundle(blas, package)
        units = self.units(objects, blas)
        changed = self.compile_units(units)
        self.link(units, blas, package, changed)

    # The units

    def units(self, objects: Path, blas: Blas) -> list[Unit]:
        plain = [
            path
            for folder in PLAIN_FOLDERS
            for path in sorted((SOURCE / folder).glob("*.c"))
            if not path.name.endswith(".kernel.c") and path != SOURCE / "isa" / "table.c"
        ]
        kernels = sorted((SOURCE / "ops").glob("*.kernel.c")) + [SOURCE / "isa" / "table.c"]
        if not plain:
            raise PlatformError(f"no C sources below {ROOT / SOURCE}: is the checkout complete?")
        isas = self.instruction_sets()
        have = [f"-DPCNN_HAVE_ISA_{isa.upper()}=1" for isa in isas]
        if self.emulated:
            have.append("-DPCNN_EMULATE_AVX512=1")
        common = [*self.compiler_command, *self.common_flags()]
        users_flags = shlex.split(os.environ.get("CFLAGS", ""))
        units = []
        for source in plain:
            folder = source.parent.name
            command = [*common, self.level("-O2"), *have]
            if folder == "blas":
                command += blas.compile_flags
            if folder == "python":
                command += self.python_flags()
            target = objects / source.parent.name / f"{source.stem}.o"
            units.append(Unit(source, target, (*command, *users_flags)))
        for isa, flags in isas.items():
            for real in REALS:
                defines = [f"-DPCNN_ISA={isa}", f"-DPCNN_ISA_{isa.upper()}=1"]
                defines += [f"-DPCNN_REAL={real}", f"-DPCNN_REAL_{real.upper()}=1"]
                for source in kernels:
                    level = "-O1" if flags is EMULATED_AVX512 else self.level("-O3")
                    command = [*common, level, *flags, *defines]
                    target = objects / f"{isa}-{real}" / f"{source.stem}.o"
                    units.append(Unit(source, target, (*command, *users_flags)))
        return units

    def level(self, usual: str) -> str:
        return "-O1" if self.sanitize else usual

    def common_flags(self) -> list[str]:
        flags = [*COMMON_FLAGS, *(flag for flag in PROBED_FLAGS if self.probe.takes([flag]))]
        if self.sanitize:
            flags += [f"-fsanitize={self.sanitize}", "-g", "-fno-omit-frame-pointer"]
            if "undefined" in self.sanitize:
                flags.append("-fno-sanitize-recover=undefined")
        else:
            flags += ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
        if is_set("PCNN_WERROR"):
            flags += STRICT_FLAGS
        return flags

    def python_flags(self) -> list[str]:
        import numpy

        paths = sysconfig.get_paths()
        folders = dict.fromkeys([paths["include"], paths["platinclude"], numpy.get_include()])
        return [
            # -isystem: other people's headers are not held to our warnings.
            *(word for folder in folders for word in ("-isystem", folder)),
            "-DNPY_NO_DEPRECATED_API=NPY_1_25_API_VERSION",
            "-DNPY_TARGET_VERSION=NPY_1_25_API_VERSION",
        ]

    def instruction_sets(self) -> dict[str, tuple[str, ...]]:
        x86 = "int main(void) { return __x86_64__ - 1; }\n"
        wanted = X86_ISAS if self.probe.takes((), x86) else OTHER_ISAS
        if self.emulated:
            if not (wanted is X86_ISAS and self.probe.takes(EMULATED_AVX512)):
                raise PlatformError("PCNN_EMULATE_AVX512=1 needs a compiler for x86-64 with AVX2")
            wanted = {**X86_ISAS, "avx512": EMULATED_AVX512}
        return {isa: flags for isa, flags in wanted.items() if self.probe.takes(flags)}

    # The work

    def compile_units(self, units: Sequence[Unit]) -> bool:
        """Compile what is not fresh, all of it even if some fail; whether anything was."""
        stale = [unit for unit in units if not unit.is_fresh()]
        print(f"pycnn: compiling {len(stale)} of {len(units)} objects", flush=True)
        # The largest first: a long kernel started last would be waited for alone.
        stale.sort(key=lambda unit: unit.source.stat().st_size, reverse=True)
        failures = []
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for done in concurrent.futures.as_completed(
                [pool.submit(unit.compile) for unit in stale]
            ):
                try:
                    warnings = done.result()
                except CompileError as error:
                    failures.append(str(error))
                else:
                    if warnings:
                        sys.stderr.write(warnings)
        if failures:
            raise CompileError("\n".join(failures))
        return bool(stale)

    def bundle(self, blas: Blas, package: Path) -> None:
        """Copy OpenBLAS and what it needs next to the module, when not there already."""
        for folder, files in (
            (package / ".libs", blas.bundled),
            (package / ".dylibs", blas.bundled_dependencies),
        ):
            for source in files:
                target = folder / source.name
                if target.exists() and target.stat().st_size == source.stat().st_size:
                    continue
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                if MACOS and files is blas.bundled:
                    for command in (
                        ["install_name_tool", "-id", f"@rpath/{target.name}", str(target)],
                        ["codesign", "--force", "--sign", "-", str(target)],
                    ):
                        subprocess.run(command, check=True)

    def link(self, units: Sequence[Unit], blas: Blas, package: Path, changed: bool) -> None:
        target = package / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
        command = [*self.compiler_command, "-pthread"]
        if MACOS:
            command += ["-bundle", "-undefined", "dynamic_lookup"]
        else:
            command += ["-shared", "-Wl,-z,relro,-z,now", "-Wl,--as-needed"]
        if self.sanitize:
            command += [f"-fsanitize={self.sanitize}", "-g"]
        command += [str(unit.target) for unit in units]
        if blas.bundled:
            origin = "@loader_path" if MACOS else "$ORIGIN"
            command += [f"-L{package / '.libs'}", f"-Wl,-rpath,{origin}/.libs"]
        command += [*blas.link_flags, "-lm", *shlex.split(os.environ.get("LDFLAGS", ""))]
        # Beside the objects of all kinds of build, which may share the target.
        stamp = units[0].target.parent.parent.parent / "link.cmd"
        newest = max(unit.target.stat().st_mtime for unit in units)
        if (
            not changed
            and target.exists()
            and target.stat().st_mtime > newest
            and stamp.exists()
            and stamp.read_text() == json.dumps([*command, str(target)])
        ):
            return
        print(f"pycnn: linking {target.name}", flush=True)
        # A running process keeps the old file: never write into a module that may be loaded.
        fresh = target.with_name(f".{target.name}.new")
        done = run_quietly([*command, "-o", str(fresh)])
        if done.returncode:
            raise CompileError(f"linking {target.name} failed:\n{done.stderr}")
        os.replace(fresh, target)
        stamp.write_text(json.dumps([*command, str(target)]))

    # What setuptools asks of the command

    def get_outputs(self) -> list[str]:
        package = Path(self.build_lib, "pycnn")
        found = [*package.glob("_core*.so"), *package.glob(".libs/*"), *package.glob(".dylibs/*")]
        return [str(path) for path in found]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        suffixes = (".c", ".h", ".def", ".inc")
        return [str(path) for path in sorted(SOURCE.rglob("*")) if path.suffix in suffixes]


if platform.python_implementation() != "CPython":
    sys.exit(f"pycnn needs CPython, this is {platform.python_implementation()}")

setup(
    ext_modules=[Extension("pycnn._core", sources=[])],
    cmdclass={"build_ext": BuildCore},
)
