# Spack: save this as package.py of the package slurm-sandbox in a repository of yours, and put the tarball into the directory where
# you call `spack install slurm-sandbox`.
import os

from spack.package import *

try:  # from Spack 1.0 on
    from spack_repo.builtin.build_systems.generic import Package
except ImportError:
    pass


class SlurmSandbox(Package):
    """Turns a Slurm cluster into a sandbox provider: leases are batch jobs with their own sshd."""

    manual_download = True
    license("MIT OR Apache-2.0")

    version("@VERSION@", sha256="@SHA256@", url=f"file://{os.getcwd()}/@TARBALL@")

    # The binary asks for glibc 2.17 and this machine's kind.
    conflicts("platform=darwin")
    conflicts("platform=windows")
    requires("target=@ARCH@:")

    depends_on("openssh", type="run")

    def install(self, spec, prefix):
        install_tree(".", prefix)

    def test_version(self):
        """The binary starts on this machine."""
        which(self.prefix.bin.join("slurm-sandbox"))("--version")
