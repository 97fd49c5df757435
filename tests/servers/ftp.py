#!/usr/bin/python3
"""Starts a real FTP server on loopback for the tests, and stops it when its input closes.

    ftp.py {vsftpd|proftpd|pure-ftpd|pyftpdlib} [--tls off|optional|required|implicit] [--extra=TEXT]

It prints `key value` lines (port, user, password, root, ca) and then `ready`. What is missing is
fetched with apt and pip into a private place; Debian's three daemons conflict with each other, so
they are unpacked there side by side. Nothing of the system changes but one file under /etc/pam.d,
which vsftpd cannot do without. Needs root, as the servers change their user.
"""
import argparse
import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PLACE = os.environ.get("ICECORE_SERVERS", "/var/tmp/icecore-servers") + "/ftp"
# Where the servers keep what they are given.
DATA = os.environ.get("ICECORE_SERVERS_DATA", "/var/tmp")
USER, PASSWORD = "tester", "s3cret pw"
# A user of every Debian whose home is there, which vsftpd asks for; it owns the files.
OWNER = pwd.getpwnam("daemon")
DEBS = {
    "vsftpd": ["vsftpd", "libwrap0", "libpam-pwdfile"],
    "proftpd": ["proftpd-core", "proftpd-mod-crypto", "libhashkit2", "libhiredis0.14",
                "libmemcached11", "libmemcachedutil2", "libpcre2-posix3", "libsodium23"],
    "pure-ftpd": ["pure-ftpd", "libsodium23"],
    "pyftpdlib": [],
}


def run(*words, **options):
    done = subprocess.run(words, capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def install(name):
    """Makes the tree of a server, once; returns its folder."""
    tree = f"{PLACE}/{name}"
    os.makedirs(PLACE, exist_ok=True)
    with open(f"{PLACE}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(f"{tree}/complete"):
            return tree
        shutil.rmtree(tree, ignore_errors=True)
        os.makedirs(f"{tree}/debs")
        # apt drops to a user of its own, which has to reach the folder it downloads to.
        os.chmod(f"{tree}/debs", 0o777)
        if name == "pyftpdlib":
            pip = shutil.which("pip3") or shutil.which("pip") or sys.exit("there is no pip")
            run(pip, "--python", "/usr/bin/python3", "install", "--quiet", "--target",
                f"{tree}/lib", "pyftpdlib==2.2.0", "pyopenssl")
        for package in DEBS[name]:
            try:
                subprocess.run(["apt-get", "download", package], cwd=f"{tree}/debs", check=True,
                               capture_output=True)
            except subprocess.CalledProcessError:
                run("apt-get", "update")
                run("apt-get", "download", package, cwd=f"{tree}/debs")
        for deb in os.listdir(f"{tree}/debs"):
            run("dpkg-deb", "-x", f"{tree}/debs/{deb}", f"{tree}/root")
        open(f"{tree}/complete", "w").close()
    return tree


def certificate(base):
    """Makes an authority and a certificate for loopback; returns both paths."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
    run("openssl", "req", "-x509", *key, "-subj", "/CN=icecore test authority",
        "-keyout", f"{base}/ca.key", "-out", f"{base}/ca.pem")
    run("openssl", "req", *key[:-2], "-subj", "/CN=localhost", "-keyout", f"{base}/tls.key",
        "-out", f"{base}/tls.csr")
    with open(f"{base}/names", "w") as names:
        names.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    run("openssl", "x509", "-req", "-in", f"{base}/tls.csr", "-CA", f"{base}/ca.pem", "-CAkey",
        f"{base}/ca.key", "-days", "30", "-extfile", f"{base}/names", "-out", f"{base}/tls.crt")
    with open(f"{base}/tls.pem", "w") as both:
        both.write(open(f"{base}/tls.key").read() + open(f"{base}/tls.crt").read())
    os.chmod(f"{base}/ca.pem", 0o644)
    return f"{base}/ca.pem", f"{base}/tls.pem"


def write(path, text, mode=0o600):
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)


def vsftpd(tree, base, root, port, tls, pem, extra):
    # Virtual users through PAM. Not by pam_exec: the signal of its helper's end makes vsftpd wait
    # for ever.
    users = f"{PLACE}/vsftpd.users"
    with open(f"{PLACE}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(users):
            write(users, f"{USER}:{run('openssl', 'passwd', '-6', PASSWORD)}\n")
        module = run("find", f"{tree}/root", "-name", "pam_pwdfile.so")
        # In one step, as the servers that run already read it at every login.
        service = "/etc/pam.d/icecore-vsftpd"
        write(f"{service}.new", f"auth required {module} pwdfile={users}\n"
              "account required pam_permit.so\nsession required pam_permit.so\n", 0o644)
        os.replace(f"{service}.new", service)
    os.makedirs(f"{base}/empty")
    lines = f"""listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=NO
local_enable=YES
guest_enable=YES
guest_username={OWNER.pw_name}
virtual_use_local_privs=YES
check_shell=NO
session_support=NO
pam_service_name=icecore-vsftpd
write_enable=YES
local_umask=022
local_root={root}
chroot_local_user=YES
allow_writeable_chroot=YES
secure_chroot_dir={base}/empty
seccomp_sandbox=NO
xferlog_enable=NO
{extra}
"""
    if tls != "off":
        force = "NO" if tls == "optional" else "YES"
        lines += (f"ssl_enable=YES\nrsa_cert_file={pem}\nssl_ciphers=HIGH\nssl_tlsv1=YES\n"
                  f"force_local_logins_ssl={force}\nforce_local_data_ssl={force}\n")
        lines += "implicit_ssl=YES\n" if tls == "implicit" else ""
    write(f"{base}/conf", lines)
    return [f"{tree}/root/usr/sbin/vsftpd", f"{base}/conf"]


def proftpd(tree, base, root, port, tls, pem, extra):
    hashed = run("openssl", "passwd", "-6", PASSWORD)
    write(f"{base}/passwd", f"{USER}:{hashed}:{OWNER.pw_uid}:{OWNER.pw_gid}::{root}:/bin/sh\n")
    write(f"{base}/group", f"{OWNER.pw_name}:x:{OWNER.pw_gid}:\n")
    lines = f"""ServerName test
ServerType standalone
DefaultAddress 127.0.0.1
Port {port}
UseIPv6 off
UseReverseDNS off
User {OWNER.pw_name}
Group {OWNER.pw_name}
ModulePath {tree}/root/usr/lib/proftpd
LoadModule mod_tls.c
LoadModule mod_site_misc.c
PidFile {base}/pid
ScoreboardFile {base}/scoreboard
DelayEngine off
WtmpLog off
TransferLog none
SystemLog {base}/log
AuthOrder mod_auth_file.c
AuthUserFile {base}/passwd
AuthGroupFile {base}/group
RequireValidShell off
DefaultRoot ~
AllowStoreRestart on
MaxInstances 50
{extra}
"""
    # The first of two lines counts.
    lines += "" if "AllowOverwrite" in extra else "AllowOverwrite on\n"
    if tls != "off":
        lines += "" if "TLSProtocol" in extra else "TLSProtocol TLSv1.2 TLSv1.3\n"
        lines += (f"TLSEngine on\nTLSLog {base}/tlslog\n"
                  f"TLSECCertificateFile {pem}\nTLSECCertificateKeyFile {pem}\n"
                  f"TLSVerifyClient off\nTLSRequired {'off' if tls == 'optional' else 'on'}\n")
        lines += "TLSOptions UseImplicitSSL\n" if tls == "implicit" else ""
    write(f"{base}/conf", lines)
    return [f"{tree}/root/usr/sbin/proftpd", "-n", "-c", f"{base}/conf"]


def pure_ftpd(tree, base, root, port, tls, pem, extra):
    # Not by `pure-pw useradd`: its hash costs seconds of each login.
    hashed = run("openssl", "passwd", "-6", PASSWORD)
    write(f"{base}/passwd",
          f"{USER}:{hashed}:{OWNER.pw_uid}:{OWNER.pw_gid}::{root}/./::::::::::::\n")
    run(f"{tree}/root/usr/bin/pure-pw", "mkdb", f"{base}/users", "-f", f"{base}/passwd",
        env=environment(tree))
    words = [f"{tree}/root/usr/sbin/pure-ftpd", "-S", f"127.0.0.1,{port}", "-4", "-A", "-E", "-H",
             "-l", f"puredb:{base}/users", "-g", f"{base}/pid", "-u", "1", "-c", "50", "-C", "50",
             "-D"]
    if tls != "off":
        words += ["-Y", {"optional": "1", "required": "2", "implicit": "3"}[tls], "-2", pem]
    return words + extra.split()


def pyftpdlib(tree, base, root, port, tls, pem, extra):
    handler = "FTPHandler" if tls == "off" else "TLS_FTPHandler"
    lines = f"""from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.handlers import TLS_FTPHandler
from pyftpdlib.servers import FTPServer
H = {handler}
H.authorizer = DummyAuthorizer()
H.authorizer.add_user({USER!r}, {PASSWORD!r}, {root!r}, perm='elradfmwMT')
H.use_gmt_times = True
"""
    if tls != "off":
        lines += f"H.certfile = {pem!r}\n"
        lines += "" if tls == "optional" else \
            "H.tls_control_required = True\nH.tls_data_required = True\n"
    lines += f"{extra}\nFTPServer(('127.0.0.1', {port}), H).serve_forever()\n"
    write(f"{base}/server.py", lines, 0o644)
    return ["/usr/bin/python3", "-u", f"{base}/server.py"]


def environment(tree):
    libraries = [f"{tree}/root/{part}/x86_64-linux-gnu" for part in ("lib", "usr/lib")]
    libraries += [part.replace("x86_64", "aarch64") for part in libraries]
    return {"PATH": os.environ["PATH"], "TZ": "UTC",
            "LD_LIBRARY_PATH": ":".join(libraries), "PYTHONPATH": f"{tree}/lib"}


def become_owner():
    os.setgroups([])
    os.setgid(OWNER.pw_gid)
    os.setuid(OWNER.pw_uid)


def wait_for(port, server, log):
    for _ in range(1500):
        if server.poll() is not None:
            sys.exit(f"the server ended with {server.returncode}\n{open(log).read()}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.01)
    sys.exit(f"nothing listens after 15 s\n{open(log).read()}")


def main():
    servers = {"vsftpd": vsftpd, "proftpd": proftpd, "pure-ftpd": pure_ftpd,
               "pyftpdlib": pyftpdlib}
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=servers)
    parser.add_argument("--tls", default="off")
    parser.add_argument("--extra", default="")
    said = parser.parse_args()
    os.umask(0o022)
    tree = install(said.name)
    base = tempfile.mkdtemp(prefix="icecore-ftp-", dir=DATA)
    os.chmod(base, 0o755)
    root = f"{base}/root"
    os.makedirs(root)
    os.chown(root, OWNER.pw_uid, OWNER.pw_gid)
    server = None
    try:
        authority, pem = certificate(base) if said.tls != "off" else ("", "")
        if pem and said.name == "pyftpdlib":
            os.chmod(pem, 0o644)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = servers[said.name](tree, base, root, port, said.tls, pem, said.extra)
        with open(f"{base}/out", "wb") as out:
            server = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/",
                env=environment(tree), start_new_session=True,
                preexec_fn=become_owner if said.name == "pyftpdlib" else None)
        wait_for(port, server, f"{base}/out")
        for key, value in (("host", "127.0.0.1"), ("port", port), ("user", USER),
                           ("password", PASSWORD), ("root", root), ("ca", authority)):
            print(key, value)
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        if server is not None and server.poll() is None:
            # All of its group: those that serve a session are processes of their own.
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
