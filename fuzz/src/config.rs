//! The config of a repository, which is read before anything can be trusted.

use icecore::codec::frame;
use icecore::codec::frame::ObjectKind;
use icecore::format::config;

/// One execution.
pub fn run(data: &[u8]) {
    let _ = config::open(data);
    let mut bytes = frame::start(ObjectKind::Config, 0);
    bytes.extend_from_slice(data);
    frame::finish(&mut bytes);
    if let Ok((config, mac)) = config::open(&bytes) {
        config.check().expect("what was opened was checked");
        let sealed = config::seal(&config, None).expect("what was opened is sealed");
        let (again, zeros) = config::open(&sealed).expect("opens again");
        assert_eq!(again, config);
        assert_eq!(zeros, [0; 32]);
        assert_eq!(config::verify(&config, &mac, None).is_ok(), mac == zeros);
    }
}
