//! What the standard library lacks of the system: randomness, host, process identity.

use crate::base::error::Error;
use crate::base::error::Result;
use serde::Deserialize;
use serde::Serialize;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// Fills `out` with random bytes of the operating system.
///
/// # Errors
/// `Io` when the system has none to give, which on Linux happens only before boot is done.
pub fn fill_random(out: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    while filled < out.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        let got = rustix::rand::getrandom(&mut out[filled..], flags)
            .map_err(|e| Error::io("cannot get random bytes from the system", e.into()))?;
        filled += got;
    }
    Ok(())
}

/// Returns a path from the root on, without `.`, `..` and a slash at its end, so that one folder
/// is called the same however it was typed. Links in it keep their names, as they are what people
/// call the folder; but for one before a `..`, which leads to where that link points.
///
/// # Errors
/// Where there is no current folder, or a link before a `..` leads nowhere.
pub fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in std::path::absolute(path)?.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if clean.symlink_metadata().is_ok_and(|it| it.is_symlink()) {
                    clean = std::fs::canonicalize(&clean)?;
                }
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    Ok(clean)
}

/// Makes a file without a name in a folder, with blocks for so many bytes allocated.
///
/// # Errors
/// As the file system says; one that cannot allocate ahead refuses.
pub fn unlinked_file(folder: &Path, length: u64) -> std::io::Result<File> {
    let mut name = [0; 8];
    fill_random(&mut name).map_err(std::io::Error::other)?;
    let path = folder.join(format!("scratch-{:016x}", u64::from_le_bytes(name)));
    let file = create_private(&path)?;
    std::fs::remove_file(&path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length)?;
    Ok(file)
}

/// Gives the room of a stretch of a file back, where the file system can; it reads as zeros then.
pub fn free_stretch(file: &File, offset: u64, length: u64) {
    let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    // Where it cannot, the room is free with the file.
    let _ = rustix::fs::fallocate(file, flags, offset, length);
}

/// Has the system ask now and then whether the other end of a connection is still there.
///
/// # Errors
/// As the system says.
pub fn keep_alive(socket: &std::net::TcpStream) -> std::io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_keepalive(socket, true)?)
}

/// Has the system write no core file of this process: it would hold keys. Programs that it
/// starts inherit the limit, and may ask for theirs again.
///
/// The limit alone does not keep a core from a program that the system pipes it to (core(5)), so
/// the process is not dumpable either. That keeps other processes of the same user from its
/// memory as well; its own look at itself in `/proc/self` is always granted.
pub fn leave_no_core() {
    use rustix::process::DumpableBehavior;
    use rustix::process::Resource;
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let limit = rustix::process::getrlimit(Resource::Core);
    // Less is always granted; where it is not, all is as it was.
    let _ = rustix::process::setrlimit(
        Resource::Core,
        rustix::process::Rlimit { current: Some(0), ..limit },
    );
}

/// Returns `N` random bytes.
///
/// # Errors
/// Those of [`fill_random`].
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill_random(&mut bytes)?;
    Ok(bytes)
}

/// Returns the machine's name, or `unknown`.
pub fn host_name() -> String {
    let name = rustix::system::uname();
    match name.nodename().to_str() {
        Ok(text) if !text.is_empty() => text.to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// Returns how many columns the terminal behind standard error has; None when there is none.
pub fn terminal_columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Makes a folder, and those above it, that only its owner can look into.
///
/// # Errors
/// As the system says, with the folder's name.
pub fn make_private_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|e| Error::io(format!("cannot make the folder {}", folder.display()), e))
}

/// Says whether a folder can be written to, or made where it is missing.
///
/// # Errors
/// Those of the system, of the folder or the nearest above it that is there.
pub fn check_writable(folder: &Path) -> std::io::Result<()> {
    use rustix::fs::Access;
    for above in folder.ancestors() {
        match rustix::fs::access(above, Access::WRITE_OK | Access::EXEC_OK) {
            Err(rustix::io::Errno::NOENT) => {}
            other => return Ok(other?),
        }
    }
    Ok(())
}

/// Makes a new file that only its owner can read and write.
///
/// # Errors
/// Those of the system.
pub fn create_private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Makes durable which names a folder has. Some network file systems cannot sync folders; there is
/// nothing more to do there.
///
/// # Errors
/// Those of the system.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    use rustix::io::Errno;
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::INVAL | Errno::OPNOTSUPP)) => {
            Ok(())
        }
        synced => synced,
    }
}

/// Renames a file, unless something has the new name.
///
/// # Errors
/// `AlreadyExists`; those of the system.
pub fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    use rustix::fs::CWD;
    use rustix::io::Errno;
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    match rustix::fs::renameat_with(CWD, from, CWD, to, flags) {
        // A file system that cannot do both at once.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            if std::fs::symlink_metadata(to).is_ok() {
                return Err(std::io::ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(from, to)
        }
        done => Ok(done?),
    }
}

/// Has a byte that was sent as urgent come in its place among the others, and not get lost.
///
/// # Errors
/// Those of the system.
pub fn take_urgent_inline(socket: impl AsFd) -> std::io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_oobinline(socket, true)?)
}

/// Returns the user and the group of this process.
pub fn user() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Waits until something can be taken from a socket or a pipe, bytes or a connection, or until the
/// time is over; says whether something can.
///
/// # Errors
/// Those of the system.
pub fn wait_readable(socket: impl AsFd, limit: Duration) -> std::io::Result<bool> {
    use rustix::event::PollFd;
    use rustix::event::PollFlags;
    let mut sockets = [PollFd::new(&socket, PollFlags::IN)];
    let limit = rustix::event::Timespec {
        tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    match rustix::event::poll(&mut sockets, Some(&limit)) {
        Ok(ready) => Ok(ready > 0),
        // A signal: whoever waits looks at what it meant.
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Reads from `offset` until `buffer` is full.
///
/// # Errors
/// Those of the system; the end of the file is one.
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Reads from `offset` until `buffer` is full or the file ends, and returns how many bytes came.
///
/// # Errors
/// Those of the system.
pub fn read_up_to(file: impl AsFd, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(&file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(filled)
}

/// Writes all of `bytes` at `offset`.
///
/// # Errors
/// Those of the system.
pub fn write_all_at(file: impl AsFd, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::pwrite(&file, &bytes[written..], offset + written as u64) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Which process on which boot of which machine; evidence for telling a dead writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The machine's name.
    pub host: String,
    /// Random id of this boot, empty where the system has none.
    pub boot: String,
    /// Process number.
    pub pid: u32,
    /// When the process began, in the system's own ticks since boot; numbers come again, this
    /// pair does not.
    pub started: u64,
    /// Which space of process numbers `pid` is in (containers share hosts, not numbers).
    pub namespace: u64,
}

impl ProcessIdentity {
    /// Returns the identity of this process.
    pub fn current() -> Self {
        let pid = std::process::id();
        ProcessIdentity {
            host: host_name(),
            boot: boot_id(),
            pid,
            started: start_ticks(pid).unwrap_or(0),
            namespace: pid_namespace(),
        }
    }

    /// Says whether the process is gone for certain: this machine was booted since, or the
    /// number is free or belongs to a process that began at another time. False means unknown.
    pub fn is_certainly_dead(&self) -> bool {
        if self.host != host_name() || self.boot.is_empty() {
            return false;
        }
        let boot = boot_id();
        if boot.is_empty() {
            return false;
        }
        if boot != self.boot {
            return true;
        }
        if self.namespace == 0 || self.namespace != pid_namespace() {
            return false;
        }
        match start_ticks(self.pid) {
            Some(ticks) => ticks != self.started,
            None => is_free(self.pid),
        }
    }

    /// Says whether the process runs for certain, on this very machine.
    pub fn is_certainly_alive(&self) -> bool {
        !self.boot.is_empty()
            && self.host == host_name()
            && self.boot == boot_id()
            && self.namespace == pid_namespace()
            && self.started != 0
            && start_ticks(self.pid) == Some(self.started)
    }
}

fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Field 22 of `/proc/<pid>/stat`, counted after the command's closing parenthesis.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after = stat.iter().rposition(|&byte| byte == b')')?;
    let text = std::str::from_utf8(stat.get(after + 1..)?).ok()?;
    text.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Says whether no process has a number. `/proc` shows none of others, nor of the same user where
/// they are not dumpable, when it is mounted with `hidepid`; or it is not mounted at all.
fn is_free(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// The inode number of the namespace, out of `pid:[4026531836]`.
fn pid_namespace() -> u64 {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let text = link.to_string_lossy();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_without_dots_keeps_the_names_of_links_but_for_one_before_dots() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = std::fs::canonicalize(folder.path()).expect("it is there");
        std::fs::create_dir_all(root.join("far/away")).expect("a folder");
        std::os::unix::fs::symlink("far/away", root.join("link")).expect("a link");
        std::os::unix::fs::symlink("nowhere", root.join("lost")).expect("a link");
        let clean = |text: &str| absolute(&root.join(text)).expect(text);

        for (text, path) in [
            ("a/./b//c/", "a/b/c"),
            ("a/../b", "b"),
            ("link/x", "link/x"),
            ("link", "link"),
            ("link/..", "far"),
            ("link/../../b", "b"),
            ("lost/x", "lost/x"),
        ] {
            assert_eq!(clean(text), root.join(path), "{text}");
        }
        assert_eq!(clean("../../../../../../../../../../../.."), Path::new("/"));
        assert!(absolute(&root.join("lost/..")).is_err());
        assert!(absolute(Path::new("")).is_err());
    }

    #[test]
    fn this_process_is_alive() {
        let me = ProcessIdentity::current();
        assert!(!me.is_certainly_dead());
        assert!(me.is_certainly_alive());
    }

    #[test]
    fn another_start_time_or_boot_means_dead() {
        let mut other = ProcessIdentity::current();
        other.started += 1;
        assert!(other.is_certainly_dead());
        let mut before = ProcessIdentity::current();
        before.boot = "another".to_owned();
        assert!(before.is_certainly_dead());
    }

    #[test]
    fn a_number_is_free_when_its_process_was_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("starts");
        let pid = child.id();
        assert!(!is_free(pid) && !is_free(1) && !is_free(std::process::id()));

        child.kill().expect("is killed");
        child.wait().expect("ends");

        assert!(is_free(pid) && is_free(u32::MAX));
    }

    #[test]
    fn nothing_is_certain_of_another_machine() {
        let mut other = ProcessIdentity::current();
        other.host = "elsewhere".to_owned();
        assert!(!other.is_certainly_dead());
        assert!(!other.is_certainly_alive());
    }
}
