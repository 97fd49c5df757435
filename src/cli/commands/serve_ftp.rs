//! `icecore serve-ftp`.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::path::display;
use crate::base::time::SystemClock;
use crate::cli::exit::Exit;
use crate::cli::output::talk;
use crate::cli::session::Session;
use crate::cli::signals;
use crate::config::secret;
use crate::config::secret::PasswordPlaces;
use crate::config::secret::SERVE_PASSWORD_VARIABLE;
use crate::net::tls::server;
use crate::serve::Demand;
use crate::serve::Limits;
use crate::serve::Options;
use crate::serve::Server;
use crate::serve::Tls;
use crate::serve::users::Rights;
use crate::serve::users::Users;
use clap::Args;
use serde::Serialize;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// The user where nobody is named.
const USER: &str = "icecore";

/// Serve a folder of datasets over FTP and FTPS
///
/// Only what is in DIR can be reached: paths are looked up beneath it, and symbolic links are shown
/// but not followed. A file that is uploaded takes its place when all of it has come. Whoever is
/// let in may do what this program may; run it as a user of its own.
///
/// It listens to this machine alone unless --listen says otherwise: `--listen 0.0.0.0:2121` is
/// for all networks, and without --tls-cert and --tls-key passwords and content cross them in the
/// clear. Behind a router, --passive-ports and --passive-host say what it lets through.
///
/// The password comes from ICECORE_SERVE_PASSWORD, --password-file or --password-command, or is
/// asked for. Ctrl-C ends it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  icecore serve-ftp /srv/datasets
  icecore serve-ftp /srv/datasets --listen 0.0.0.0:2121 --user ann --read-only \\
    --tls-cert cert.pem --tls-key key.pem --require-tls --passive-ports 50000-50100
  openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=$(hostname) \\
    -addext subjectAltName=DNS:$(hostname) -addext basicConstraints=critical,CA:FALSE \\
    -keyout key.pem -out cert.pem")]
pub(crate) struct ServeFtpArgs {
    /// Folder to serve
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// Listen at ADDR, an address and a port; port 0 is any that is free
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2121")]
    #[arg(value_parser = parse_listen)]
    listen: SocketAddr,

    /// Let in NAME, who knows the password [default: icecore, unless others are let in]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Let in those whom FILE names: a line name:password each, FILE for its owner alone
    #[arg(long, value_name = "FILE")]
    users_file: Option<PathBuf>,

    /// Let everybody in to read, as user anonymous
    #[arg(long)]
    anonymous: bool,

    /// Let nobody change anything
    #[arg(long)]
    read_only: bool,

    /// Offer TLS with the certificate in FILE, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Take the certificate's key from FILE, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Let nobody in without TLS
    #[arg(long, requires = "tls_cert")]
    require_tls: bool,

    /// As --require-tls, and each data connection must resume the TLS session of its commands
    #[arg(long, requires = "tls_cert")]
    require_tls_reuse: bool,

    /// Take ports for data from A to B [default: any that is free]
    #[arg(long, value_name = "A-B", value_parser = parse_ports)]
    passive_ports: Option<RangeInclusive<u16>>,

    /// Tell clients to connect to ADDR for data, as a router shows this machine
    #[arg(long, value_name = "ADDR")]
    passive_host: Option<Ipv4Addr>,

    /// Serve at most N sessions at a time
    #[arg(long, value_name = "N", default_value_t = Limits::default().sessions)]
    #[arg(value_parser = parse_count)]
    max_sessions: usize,

    /// Serve at most N sessions at a time from one address
    #[arg(long, value_name = "N", default_value_t = Limits::default().sessions_of_one)]
    #[arg(value_parser = parse_count)]
    max_per_address: usize,

    /// End sessions that ask for nothing for N seconds
    #[arg(long, value_name = "N", default_value_t = Limits::default().idle.as_secs())]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,
}

#[derive(Serialize)]
struct Document<'a> {
    address: String,
    port: u16,
    folder: String,
    tls: &'a str,
    rights: &'a str,
}

pub(crate) fn run(args: &ServeFtpArgs, session: &mut Session) -> Result<Exit> {
    let options = options(args)?;
    let users = users(args, session)?;
    let server = Server::bind(&args.folder, args.listen, users, options)?;
    signals::install(&session.cancel)?;
    let address = server.address()?;
    if args.tls_cert.is_none() && !address.ip().is_loopback() {
        session
            .output
            .note("passwords and content cross the network in the clear: --tls-cert and --tls-key");
    }
    tell(args, address, session)?;
    let verbose = session.global.verbose;
    let log = |text: &str| {
        if verbose {
            talk(text);
        }
    };
    server.run(&SystemClock, &session.cancel, &log)?;
    Ok(Exit::Done)
}

fn options(args: &ServeFtpArgs) -> Result<Options> {
    let demand = match (args.require_tls_reuse, args.require_tls) {
        (true, _) => Demand::Resumed,
        (false, true) => Demand::Everybody,
        (false, false) => Demand::Nobody,
    };
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            Some(Tls { side: server::side(certificate, key)?, demand })
        }
        _ => None,
    };
    Ok(Options {
        rights: if args.read_only { Rights::Read } else { Rights::Write },
        tls,
        passive_ports: args.passive_ports.clone(),
        passive_host: args.passive_host,
        limits: Limits {
            sessions: args.max_sessions,
            sessions_of_one: args.max_per_address,
            idle: Duration::from_secs(args.idle),
            ..Limits::default()
        },
    })
}

fn users(args: &ServeFtpArgs, session: &Session) -> Result<Users> {
    let mut users = Users::new()?;
    if let Some(file) = &args.users_file {
        users.add_file(file)?;
    }
    if args.anonymous {
        users.open();
    }
    if args.user.is_none() && !users.is_empty() {
        return Ok(users);
    }
    let name = args.user.as_deref().unwrap_or(USER);
    let places = PasswordPlaces {
        file: session.global.password_file.clone(),
        command: session.global.password_command.clone(),
        variable: SERVE_PASSWORD_VARIABLE,
        configured: None,
    };
    let password = match places.find()? {
        Some(password) => password,
        None if secret::can_ask() => secret::ask_new(&format!("password for {name}"))?,
        None => {
            return Err(Error::invalid(format!("there is no password for the user {name}"))
                .hint("set ICECORE_SERVE_PASSWORD, or use --password-file or --users-file"));
        }
    };
    users.add(name.as_bytes(), &password)?;
    Ok(users)
}

/// Tells that clients are heard from here on, and where.
fn tell(args: &ServeFtpArgs, address: SocketAddr, session: &mut Session) -> Result<()> {
    let tls = match (&args.tls_cert, args.require_tls || args.require_tls_reuse) {
        (None, _) => "off",
        (Some(_), false) => "offered",
        (Some(_), true) => "required",
    };
    let scheme = if args.tls_cert.is_some() { "ftps" } else { "ftp" };
    let user = args.user.as_deref().or(args.users_file.is_none().then_some(USER));
    let user = user.filter(|_| args.user.is_some() || !args.anonymous);
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    let folder = display(args.folder.as_os_str().as_bytes());
    let at = format!("{scheme}://{}{address}", display(user.as_bytes()));
    let rights = if args.read_only { "read" } else { "write" };
    if session.output.is_json() {
        let (address, port) = (at, address.port());
        return session.output.document(&Document { address, port, folder, tls, rights });
    }
    let rights = if args.read_only { ", read only" } else { "" };
    session.output.line(&format!("serving {folder} at {at}{rights}, TLS {tls}"))?;
    session.output.finish()
}

fn parse_listen(text: &str) -> std::result::Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write ADDRESS:PORT, as 127.0.0.1:2121 or 0.0.0.0:2121")
}

/// With none allowed it would serve nobody, and say that it serves.
fn parse_count(text: &str) -> std::result::Result<usize, &'static str> {
    text.parse().ok().filter(|count| *count > 0).ok_or("a number of sessions is 1 or more")
}

fn parse_ports(text: &str) -> std::result::Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').ok_or("two ports are wanted, as 50000-50100")?;
    let port = |text: &str| match text.trim().parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{text:?} is no port")),
    };
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err("the first port is beyond the last".to_owned());
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ports_is_two_of_them() {
        assert_eq!(parse_ports("50000-50100"), Ok(50_000..=50_100));
        for bad in ["50000", "0-5", "6-5", "5-65536", "a-b", ""] {
            assert!(parse_ports(bad).is_err(), "{bad}");
        }
    }
}
