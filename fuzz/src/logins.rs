//! Files of other programs that say who logs in where: `.netrc`, and those of AWS.

use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::config::aws::AwsFile;
use icecore::config::netrc::Netrc;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "netrc names the host",
    "netrc has a default",
    "netrc is refused",
    "aws has a profile",
    "aws has a value",
    "aws is refused",
];

/// An error names the line and repeats no word.
fn is_sound(error: &Error, data: &[u8]) {
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let message = error.to_string();
    let number = message.strip_prefix("line ").and_then(|rest| rest.split_once(':'));
    let number: usize = number.expect(&message).0.parse().expect(&message);
    let lines = data.iter().filter(|&&byte| byte == b'\n').count() + 1;
    assert!((1..=lines).contains(&number), "{message} of {lines}");
    assert!(error.full_message().len() < 200, "{error}");
}

/// One execution.
pub fn run(data: &[u8]) {
    match Netrc::parse(data) {
        Ok(netrc) => {
            let any = netrc.find("host", None);
            let found = netrc.find("HOST", Some("me"));
            assert_eq!(found.is_some(), netrc.find("host", Some("me")).is_some());
            assert!(found.is_none() || any.is_some());
            if let Some((Some(login), _)) = found {
                assert_eq!(login, "me");
                reach("netrc names the host");
            }
            if netrc.find("no.such.host", None).is_some() {
                reach("netrc has a default");
            }
            // A file within itself says the same.
            let twice = [data, b"\n\n", data].concat();
            let again = Netrc::parse(&twice).expect("twice what is good");
            assert_eq!(again.find("host", None).map(|it| it.0), any.map(|it| it.0));
        }
        Err(e) => {
            is_sound(&e, data);
            reach("netrc is refused");
        }
    }
    match AwsFile::parse(data) {
        Ok(file) => {
            for key in ["region", "aws_access_key_id", "endpoint_url"] {
                let value = file.get("default", key);
                assert!(value.is_none() || file.has("default"));
                assert!(value.is_none_or(|it| !it.is_empty() && it.trim() == it));
                if value.is_some() {
                    reach("aws has a value");
                }
            }
            if file.has("work") {
                reach("aws has a profile");
            }
        }
        Err(e) => {
            is_sound(&e, data);
            reach("aws is refused");
        }
    }
}
