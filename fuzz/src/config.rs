//! The config of a repository, which is read before anything can be trusted.

use icecore::base::error::ErrorKind;
use icecore::codec::frame;
use icecore::codec::frame::ObjectKind;
use icecore::format::config;
use icecore::format::config::Encryption;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &["refused", "plain", "encrypted", "genuine"];

fn opens_or_not(bytes: &[u8]) {
    let (config, mac) = match config::open(bytes) {
        Ok(opened) => opened,
        Err(e) => {
            let fits = matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported);
            assert!(fits, "{:?}: {}", e.kind(), e.full_message());
            return reach("refused");
        }
    };
    reach(if config.encryption == Encryption::None { "plain" } else { "encrypted" });
    config.check().expect("what was opened was checked");
    let sealed = config::seal(&config, None).expect("what was opened is sealed");
    let (again, zeros) = config::open(&sealed).expect("opens again");
    assert_eq!(again, config);
    assert_eq!(zeros, [0; 32]);
    // It has one spelling.
    assert_eq!(sealed == bytes, mac == zeros);
    let is_genuine = config::verify(&config, &mac, None).is_ok();
    assert_eq!(is_genuine, mac == zeros);
    if is_genuine {
        reach("genuine");
    }
}

/// One execution.
pub fn run(data: &[u8]) {
    opens_or_not(data);
    let mut bytes = frame::start(ObjectKind::Config, 0);
    bytes.extend_from_slice(data);
    frame::finish(&mut bytes);
    opens_or_not(&bytes);
}
