#!/usr/bin/python3
"""Finds the FTP clients that the server is tried with: lftp, curl and Python's ftplib.

It prints `key value` lines (the path of each program) and then `ready`. What is missing is fetched
with apt into a private place, and nothing of the system changes.
"""
import fcntl
import os
import shutil
import subprocess
import sys

PLACE = os.environ.get("ICECORE_SERVERS", "/var/tmp/icecore-servers") + "/clients"
# Beside what every Debian has.
DEBS = {
    "lftp": ["lftp", "libreadline8", "libtinfo6", "libgnutls30", "libhogweed6", "libnettle8",
             "libp11-kit0", "libtasn1-6", "libunistring2", "libidn2-0", "libffi8", "libgmp10"],
    "curl": ["curl", "libcurl4", "libnghttp2-14", "librtmp1", "libssh2-1", "libpsl5",
             "libldap-2.5-0", "libsasl2-2", "libbrotli1", "libgnutls30"],
}


def run(*words, **options):
    done = subprocess.run(words, capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def install(name):
    """Unpacks a client with its libraries; returns a script that starts it."""
    tree = f"{PLACE}/{name}"
    script = f"{tree}/run"
    if os.path.exists(script):
        return script
    shutil.rmtree(tree, ignore_errors=True)
    os.makedirs(f"{tree}/debs")
    # apt drops to a user of its own, which has to reach the folder it downloads to.
    os.chmod(f"{tree}/debs", 0o777)
    download = ["apt-get", "download", *DEBS[name]]
    if subprocess.run(download, cwd=f"{tree}/debs", capture_output=True).returncode != 0:
        run("apt-get", "update")
        run(*download, cwd=f"{tree}/debs")
    for deb in os.listdir(f"{tree}/debs"):
        run("dpkg-deb", "-x", f"{tree}/debs/{deb}", f"{tree}/root")
    # lftp loads its commands as libraries.
    modules = run("find", f"{tree}/root", "-name", "proto-ftp.so")
    libraries = {os.path.dirname(path) for path in
                 run("find", f"{tree}/root", "-name", "*.so.*").splitlines()}
    lines = ["#!/bin/sh", f"export LD_LIBRARY_PATH={':'.join(sorted(libraries))}"]
    if modules:
        lines.append(f"export LFTP_MODULE_PATH={os.path.dirname(modules)}")
    lines.append(f'exec {tree}/root/usr/bin/{name} "$@"')
    with open(f"{script}.new", "w") as file:
        file.write("\n".join(lines) + "\n")
    os.chmod(f"{script}.new", 0o755)
    os.rename(f"{script}.new", script)
    return script


os.makedirs(PLACE, exist_ok=True)
with open(f"{PLACE}/lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    for client in ["lftp", "curl"]:
        print(client, shutil.which(client) or install(client))
print("python", "/usr/bin/python3")
print("ready", flush=True)
sys.stdin.read()
