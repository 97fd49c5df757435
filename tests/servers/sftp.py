#!/usr/bin/python3
"""SFTP servers for the tests: `sftp.py openssh [OPTION]` or `sftp.py proftpd`.

Options: `--no-sftp` offers none, `--rekey` wants new keys after each mebibyte, `--both` wants a key
and the password, `--keyboard` asks for the password as if somebody sat there.

Fetches what is missing into a private folder, starts one server on a free port of the loopback,
prints what a client needs as `key value` lines and then `ready`, and stops when its standard
input closes, so that no server outlives the test that started it.
"""
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.environ.get("ICECORE_SERVERS", "/var/tmp/icecore-servers")
USER = "icecore-sftp"
PASSWORD = "s3cret pw"
PACKAGES = {
    "openssh": ["openssh-server", "openssh-sftp-server", "libwrap0"],
    "proftpd": ["proftpd-core", "proftpd-mod-crypto", "libhashkit2", "libhiredis0.14",
                "libmemcached11", "libmemcachedutil2", "libpcre2-posix3", "libsodium23",
                "libwrap0"],
}


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stdout.decode(errors='replace')}")
    return done.stdout.decode(errors="replace")


def unpacked(kind):
    """Returns a folder with the packages of a server, unpacked and not installed."""
    place = f"{ROOT}/{kind}-tree"
    if os.path.exists(f"{place}/complete"):
        return place
    os.makedirs(ROOT, exist_ok=True)
    fresh = tempfile.mkdtemp(prefix=f"{kind}-", dir=ROOT)
    os.chmod(fresh, 0o755)
    debs = f"{fresh}/debs"
    os.makedirs(debs)
    # apt drops to a user of its own, which has to reach the folder it downloads to.
    os.chmod(debs, 0o777)
    fetch = ["apt-get", "download", *PACKAGES[kind]]
    if subprocess.run(fetch, cwd=debs, capture_output=True).returncode != 0:
        run("apt-get", "update")
        run(*fetch, cwd=debs)
    for deb in os.listdir(debs):
        run("dpkg-deb", "-x", f"{debs}/{deb}", fresh)
    shutil.rmtree(debs)
    open(f"{fresh}/complete", "w").close()
    try:
        os.rename(fresh, place)
    except OSError:
        # Another test was quicker.
        shutil.rmtree(fresh)
    return place


def account(name):
    try:
        return pwd.getpwnam(name)
    except KeyError:
        # Two tests may do so at once: whoever loses finds it there.
        subprocess.run(["useradd", "-r", "-M", "-d", "/", "-s", "/usr/sbin/nologin", name],
                       capture_output=True)
        return pwd.getpwnam(name)


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def make_keys(folder):
    for name, kind, phrase in (
        ("host_ed25519", "ed25519", ""), ("host_ecdsa", "ecdsa", ""), ("host_rsa", "rsa", ""),
        ("key", "ed25519", ""), ("key_rsa", "rsa", ""), ("key_ecdsa", "ecdsa", ""),
        ("key_locked", "ed25519", "pass phrase"), ("key_stranger", "ed25519", ""),
    ):
        bits = ["-b", "2048"] if kind == "rsa" else []
        run("ssh-keygen", "-q", "-t", kind, *bits, "-N", phrase, "-C", name, "-f", f"{folder}/{name}")
    with open(f"{folder}/authorized_keys", "w") as file:
        for name in ("key", "key_rsa", "key_ecdsa", "key_locked"):
            file.write(open(f"{folder}/{name}.pub").read())


def keys(folder):
    """Puts keys into a folder; they are made once, as that takes time."""
    made = f"{ROOT}/sftp-keys"
    if not os.path.exists(made):
        fresh = tempfile.mkdtemp(prefix="sftp-keys-", dir=ROOT)
        make_keys(fresh)
        try:
            os.rename(fresh, made)
        except OSError:
            # Another test was quicker.
            shutil.rmtree(fresh)
    for name in os.listdir(made):
        shutil.copy(f"{made}/{name}", folder)


def sshd_config(folder, port, extra):
    config = f"""Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_ed25519
HostKey {folder}/host_ecdsa
HostKey {folder}/host_rsa
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/pid
StrictModes no
PubkeyAuthentication yes
PrintMotd no
UseDNS no
MaxStartups 100:30:200
LogLevel VERBOSE
{extra}
"""
    with open(f"{folder}/sshd_config", "w") as file:
        file.write(config)


def openssh(folder, data, port):
    tree = unpacked("openssh")
    account("sshd")
    who = account(USER)
    run("chpasswd", input=f"{USER}:{PASSWORD}\n".encode())
    os.chown(data, who.pw_uid, who.pw_gid)
    os.makedirs("/run/sshd", exist_ok=True)
    program = f"{tree}/usr/sbin/sshd"
    extra = "" if "--no-sftp" in sys.argv else "Subsystem sftp internal-sftp\n"
    if "--rekey" in sys.argv:
        extra += "RekeyLimit 1M\n"
    if "--both" in sys.argv:
        extra += "AuthenticationMethods publickey,password\n"
    if "--keyboard" in sys.argv:
        # PAM goes by the name of the program.
        program = f"{folder}/icecore-test-sshd"
        os.symlink(f"{tree}/usr/sbin/sshd", program)
        with open("/etc/pam.d/icecore-test-sshd", "w") as file:
            file.write("auth required pam_unix.so\naccount required pam_permit.so\n"
                       "session required pam_permit.so\n")
        extra += "UsePAM yes\nPasswordAuthentication no\nKbdInteractiveAuthentication yes\n"
    else:
        extra += "UsePAM no\nPasswordAuthentication yes\nKbdInteractiveAuthentication no\n"
    sshd_config(folder, port, extra)
    library = f"{tree}/usr/lib/x86_64-linux-gnu"
    environment = {**os.environ, "LD_LIBRARY_PATH": library}
    command = [program, "-D", "-e", "-f", f"{folder}/sshd_config"]
    print(f"program {tree}/usr/lib/openssh/sftp-server")
    return command, environment, data


def proftpd(folder, data, port):
    tree = unpacked("proftpd")
    who = account(USER)
    os.chown(data, who.pw_uid, who.pw_gid)
    hashed = run("openssl", "passwd", "-6", PASSWORD).strip()
    with open(f"{folder}/passwd", "w") as file:
        file.write(f"{USER}:{hashed}:{who.pw_uid}:{who.pw_gid}::{data}:/bin/sh\n")
    with open(f"{folder}/group", "w") as file:
        file.write(f"{USER}:x:{who.pw_gid}:\n")
    os.chmod(f"{folder}/passwd", 0o600)
    os.chmod(f"{folder}/group", 0o600)
    with open(f"{folder}/keys", "w") as file:
        for name in ("key", "key_rsa", "key_ecdsa", "key_locked"):
            file.write(run("ssh-keygen", "-e", "-m", "RFC4716", "-f", f"{folder}/{name}.pub"))
    library = f"{tree}/usr/lib/x86_64-linux-gnu"
    config = f"""ServerType standalone
ServerName test
DefaultAddress 127.0.0.1
Port {port}
UseIPv6 off
User {USER}
Group {USER}
ModulePath {tree}/usr/lib/proftpd
LoadModule mod_sftp.c
PidFile {folder}/pid
ScoreboardFile {folder}/scoreboard
DelayEngine off
WtmpLog off
TransferLog none
SystemLog {folder}/log
AuthOrder mod_auth_file.c
AuthUserFile {folder}/passwd
AuthGroupFile {folder}/group
RequireValidShell off
DefaultRoot ~
AllowOverwrite on
AllowStoreRestart on
MaxInstances 100
SFTPEngine on
SFTPLog {folder}/sftplog
SFTPHostKey {folder}/host_rsa
SFTPHostKey {folder}/host_ecdsa
SFTPHostKey {folder}/host_ed25519
SFTPAuthorizedUserKeys file:{folder}/keys
SFTPAuthMethods publickey password
"""
    with open(f"{folder}/proftpd.conf", "w") as file:
        file.write(config)
    environment = {**os.environ, "LD_LIBRARY_PATH": library}
    return [f"{tree}/usr/sbin/proftpd", "-n", "-c", f"{folder}/proftpd.conf"], environment, ""


def wait_until_up(process, port, log):
    for _ in range(1000):
        if process.poll() is not None:
            sys.exit(f"the server ended: {open(log).read()}")
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as it:
                it.settimeout(5)
                if it.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        time.sleep(0.01)
    process.kill()
    sys.exit(f"the server does not answer: {open(log).read()}")


def main():
    kind = sys.argv[1]
    start = {"openssh": openssh, "proftpd": proftpd}[kind]
    os.makedirs(f"{ROOT}/run", exist_ok=True)
    folder = tempfile.mkdtemp(prefix=f"{kind}-", dir=f"{ROOT}/run")
    os.chmod(folder, 0o755)
    data = f"{folder}/data"
    os.makedirs(data)
    keys(folder)
    port = free_port()
    command, environment, root = start(folder, data, port)
    log = f"{folder}/output"
    with open(log, "w") as output:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=output, start_new_session=True)
    try:
        wait_until_up(process, port, log)
        with open(f"{folder}/known_hosts", "w") as file:
            for name in ("ed25519", "ecdsa", "rsa"):
                words = open(f"{folder}/host_{name}.pub").read().split()
                file.write(f"[127.0.0.1]:{port} {words[0]} {words[1]}\n")
        print(f"host 127.0.0.1\nport {port}\nuser {USER}\npassword {PASSWORD}")
        print(f"keys {folder}\nknown_hosts {folder}/known_hosts\ndata {data}\nroot {root}")
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        # Sessions of sshd end with their connections.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
