//! icecore against other tools on servers of this machine: whole processes on the same data, step
//! by step in turn, and what each of them says on the wire.
//!
//! | contest | data | server | against |
//! |---|---|---|---|
//! | repository in a bucket | kernel tree | SeaweedFS | restic |
//! | repository behind SFTP | kernel tree | OpenSSH | restic |
//! | FTP tree, as source and as target | 5 694 files, 129 MB | proftpd, .. | `lftp mirror -P 4` |
//!
//! At every step each tool runs once before the next step begins, another one first in each round.
//! What came back, or went there, is compared with the source each time, by reading both. In one
//! more round, which is not timed, everything goes through a proxy that counts: requests
//! (commands over FTP, of anything else what was said after an answer), connections and bytes.
//!
//! - `ICECORE_BENCH_SERVERS=seaweedfs,proftpd`: which of seaweedfs, openssh, proftpd, vsftpd,
//!   pyftpdlib. `tests/servers` fetches and starts them; `peers.sh` puts restic where it is looked
//!   for.
//! - `ICECORE_BENCH_ROUNDS`, 3; `ICECORE_BENCH_SCALE=0.1` takes fewer files of what is generated.
//! - `ICECORE_BENCH_KERNEL`: a source tree, else `/usr/src/linux-source-*` where it is unpacked,
//!   else generated records.
//! - `ICECORE_BENCH_DIR`: where everything happens but what servers keep, `/dev/shm` when not said.
//! - `ICECORE_SERVERS_DATA`: where FTP servers keep what they have, `/var/tmp` when not said. In
//!   memory (`/dev/shm`) no disk that is still writing what one tool sent slows the next one down.
//!
//! Each file over FTP leaves a port that is not used again for a minute, and there are 28 000:
//! `sysctl net.ipv4.tcp_max_tw_buckets=500` keeps the tools from waiting for those of others.
//!
//! Repositories on servers are encrypted, as restic's always are; the one on this machine is not,
//! as lftp encrypts nothing.

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]
#![allow(clippy::print_stderr, reason = "it takes long, and says how far it is")]

#[path = "remote/contest.rs"]
mod contest;
#[path = "remote/files.rs"]
mod files;
#[path = "../tests/net/distance/proxy.rs"]
mod proxy;
#[path = "remote/report.rs"]
mod report;
#[path = "../tests/net/support.rs"]
mod servers;
#[path = "support/mod.rs"]
mod support;
#[path = "remote/tools.rs"]
mod tools;

use contest::Contest;
use contest::ServerKind;
use std::fs;
use std::io;
use std::process::ExitCode;
use support::environment;
use support::work::Work;

const ROUNDS: usize = 3;

fn main() -> ExitCode {
    if !support::is_asked("remote") {
        return ExitCode::SUCCESS;
    }
    match measure_all() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            println!("remote: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Says whether everything that ran did what it should.
fn measure_all() -> io::Result<bool> {
    let work = Work::make("remote")?;
    let names = ServerKind::ALL.map(ServerKind::name);
    let chosen = environment::chosen("SERVERS", &names)?;
    let rounds = environment::number("ROUNDS", ROUNDS)?.max(1);
    let scale = environment::scale()?;
    report::print_head(rounds, scale);
    let mut is_well = true;
    for kind in ServerKind::ALL.into_iter().filter(|kind| chosen.iter().any(|it| it == kind.name()))
    {
        let below = work.join(kind.name());
        let contest = Contest::new(kind, scale, &below)?;
        let runs = contest.run(rounds)?;
        is_well &= report::print(&contest, &runs);
        fs::remove_dir_all(&below)?;
    }
    Ok(is_well)
}
