#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
#
# prepare.py CACHE INIT: make what a guest boots from: CACHE/vmlinux, the
# distribution's kernel, unpacked but never installed; CACHE/root, a small
# tree with INIT, the tools and the kernel's modules; CACHE/initrd, the same
# as an initramfs.  What is up to date stays.  Packages come through apt as it
# is configured, and are kept.  Exit status 77, with one line that says why,
# where something cannot be had.

import fcntl
import glob
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import sys

# Module names, in an order that insmod can take; what they depend on is found
# here, what they ask for by an alias (crc32c) is named.
MODULES = """virtio_pci virtio_net virtio_blk 9pnet_virtio 9p crc32c_generic
    crc32c_intel ext4 xfs nbd vsock_loopback""".split()
# Programs, and the packages to take them from where the host lacks them.
PROGRAMS = {
    "dash": ["dash"],
    "e2fsck": ["e2fsprogs"],
    "mkfs.ext4": ["e2fsprogs"],
    "mkfs.xfs": ["xfsprogs", "libinih1", "liburcu8"],
    "xfs_repair": ["xfsprogs", "libinih1", "liburcu8"],
    "nbd-client": ["nbd-client", "libnl-3-200", "libnl-genl-3-200"],
}
LIB = "usr/lib/x86_64-linux-gnu"


def skip(why):
    print("SKIP:", why)
    sys.exit(77)


def output(*command, **more):
    return subprocess.run(command, check=True, text=True,
                          stdout=subprocess.PIPE, **more).stdout


class Packages:
    """Downloaded packages, and the one tree that they are unpacked into."""

    def __init__(self, cache):
        self.debs = cache + "/deb"
        self.tree = cache + "/unpacked"
        os.makedirs(self.debs, exist_ok=True)
        os.makedirs(self.tree, exist_ok=True)
        self.got = set()

    def find(self, pattern):
        return sorted(glob.glob(f"{self.debs}/{pattern}_*.deb"))

    def get(self, name):
        if name in self.got:
            return
        if not self.find(name):
            done = subprocess.run(
                ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download",
                 name], cwd=self.debs, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                timeout=300)
            if done.returncode or not self.find(name):
                said = done.stderr.strip().splitlines() or [""]
                skip(f"cannot download the package {name} ({said[-1]}); "
                     "is there a network, has apt-get update run?")
        output("dpkg-deb", "-x", self.find(name)[-1], self.tree)
        self.got.add(name)

    def kernel(self):
        """The version of the kernel, whose package is there on return."""
        known = output("apt-cache", "depends", "linux-image-amd64")
        names = re.findall(r"Depends: (linux-image-[0-9]\S+)", known) or [
            os.path.basename(deb).split("_")[0]
            for deb in self.find("linux-image-[0-9]*")]
        if not names:
            skip("apt knows no kernel package; has apt-get update run?")
        self.get(names[-1])
        return names[-1].removeprefix("linux-image-")


def unpack_kernel(source, target):
    """The kernel itself: it starts much sooner than one that unpacks itself."""
    with open(source, "rb") as f:
        data = f.read()
    for match in re.finditer(b"\xfd7zXZ\x00", data):
        try:
            kernel = lzma.LZMADecompressor().decompress(data[match.start():])
        except lzma.LZMAError:
            continue
        if kernel.startswith(b"\x7fELF"):
            data = kernel
            break
    with open(target, "wb") as f:
        f.write(data)


def add_modules(root, tree, version):
    """Copy the modules, and list them in the order to insert them in."""
    top = f"{tree}/lib/modules/{version}/kernel"
    files = {}
    for path, _, names in os.walk(top):
        for name in names:
            if name.endswith(".ko"):
                files[name[:-3].replace("-", "_")] = f"{path}/{name}"
    order = []

    def add(name):
        if name in order or name not in files:
            return      # not in files: built in, or not on this processor
        with open(files[name], "rb") as f:
            found = re.search(rb"\0depends=([^\0]*)\0", f.read())
        for other in found.group(1).decode().split(",") if found else []:
            add(other.replace("-", "_"))
        order.append(name)
        shutil.copy(files[name], f"{root}/modules/{name}.ko")

    os.mkdir(root + "/modules")
    for name in MODULES:
        add(name)
    for name in ("nbd", "ext4", "xfs", "9p", "vsock_loopback"):
        if name not in order:
            skip(f"the kernel {version} has no module {name}")
    with open(root + "/modules/order", "w") as f:
        f.writelines(name + "\n" for name in order)


def copy(source, root, name):
    target = f"{root}/{name}"
    if not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy(source, target)
        os.chmod(target, 0o755)


def add_programs(root, packages):
    unpacked = packages.tree
    where = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin",
                             unpacked + "/usr/sbin", unpacked + "/sbin",
                             unpacked + "/usr/bin", unpacked + "/bin"])
    environ = dict(os.environ, LC_ALL="C", LD_LIBRARY_PATH=os.pathsep.join(
        [f"{unpacked}/{LIB}", f"{unpacked}/{LIB.removeprefix('usr/')}"]))

    packages.get("busybox-static")
    copy(unpacked + "/bin/busybox", root, "usr/bin/busybox")
    for name in output(root + "/usr/bin/busybox", "--list").split():
        if name not in ("busybox", "sh", *PROGRAMS):
            os.symlink("busybox", f"{root}/usr/bin/{name}")
    for name, sources in PROGRAMS.items():
        path = shutil.which(name, path=where)
        libs = path and output("ldd", path, env=environ)
        if not path or "not found" in libs:
            for source in sources:
                packages.get(source)
            path = shutil.which(name, path=where)
            libs = path and output("ldd", path, env=environ)
            if not path or "not found" in libs:
                skip(f"there is no {name} that works")
        copy(path, root, f"usr/bin/{name}")
        for lib in re.findall(r"(/\S+)", re.sub(r"\S+ => ", "", libs)):
            if "ld-linux" in lib:
                copy(lib, root, "usr/lib64/" + os.path.basename(lib))
            else:
                copy(lib, root, f"{LIB}/{os.path.basename(lib)}")
    os.symlink("dash", root + "/usr/bin/sh")


def pack(root, target):
    """Write the tree as a cpio archive in the format "newc"."""
    inode = 0

    def entry(f, name, mode, data):
        nonlocal inode
        inode += 1
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0,
                  len(name) + 1, 0)
        head = "070701" + "".join("%08x" % n for n in fields) + name + "\0"
        f.write(head.encode() + bytes(-len(head) % 4))
        f.write(data + bytes(-len(data) % 4))

    with open(target, "wb") as f:
        for path, dirs, files in os.walk(root):
            for name in sorted(dirs + files):
                full = f"{path}/{name}"
                mode, data = os.lstat(full).st_mode, b""
                if os.path.islink(full):
                    data = os.readlink(full).encode()
                elif not os.path.isdir(full):
                    with open(full, "rb") as g:
                        data = g.read()
                entry(f, full[len(root) + 1:], mode, data)
        entry(f, "TRAILER!!!", 0, b"")


def make_root(root, init, packages, version):
    shutil.rmtree(root, ignore_errors=True)
    for name in ("usr/bin", "usr/lib64", LIB, "dev", "etc", "mnt", "proc",
                 "root", "run", "share", "sys", "tmp"):
        os.makedirs(f"{root}/{name}")
    for name, to in (("bin", "bin"), ("sbin", "bin"), ("lib", "lib"),
                     ("lib64", "lib64"), ("usr/sbin", "bin")):
        os.symlink(to if "/" in name else "usr/" + to, f"{root}/{name}")
    copy(init, root, "init")
    with open(root + "/etc/passwd", "w") as f:
        f.write("root:x:0:0:root:/root:/bin/sh\n")
    with open(root + "/etc/hosts", "w") as f:
        f.write("127.0.0.1 localhost\n10.0.2.2 host\n")
    for name in ("/etc/mke2fs.conf",):
        if os.path.exists(name):
            shutil.copy(name, root + name)
    add_programs(root, packages)
    add_modules(root, packages.tree, version)


def main(cache, init):
    os.makedirs(cache, exist_ok=True)
    lock = open(cache + "/lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)

    digest = hashlib.sha256()
    for name in (__file__, init):
        with open(name, "rb") as f:
            digest.update(f.read())
    stamp = cache + "/stamp"
    if os.path.exists(stamp) and open(stamp).read() == digest.hexdigest():
        return
    for command in ("apt-get", "apt-cache", "dpkg-deb"):
        if not shutil.which(command):
            skip(f"there is no {command} here to get the kernel with")

    if os.path.exists(stamp):
        os.unlink(stamp)
    packages = Packages(cache)
    version = packages.kernel()
    unpack_kernel(f"{packages.tree}/boot/vmlinuz-{version}",
                  cache + "/vmlinux")
    make_root(cache + "/root", init, packages, version)
    pack(cache + "/root", cache + "/initrd")
    shutil.rmtree(packages.tree)
    with open(stamp, "w") as f:
        f.write(digest.hexdigest())
    print(f"made a guest with Linux {version} in {cache}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: prepare.py CACHE INIT")
    main(os.path.abspath(sys.argv[1]), sys.argv[2])
