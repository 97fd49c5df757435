//! Addresses of backups as a person types them, read at a fixed time of the day.

use icecore::base::time::Timestamp;
use icecore::engine::address::BackupAddress;
use icecore::engine::address::Version;

const NOW: Timestamp = Timestamp::new(1_800_000_000, 5);
/// The end of the year 9999, behind which years are written otherwise.
const SECONDS_END: i64 = 253_402_300_800;

/// Says whether what is shown to a person is all that there is.
fn is_shown_whole(address: &BackupAddress) -> bool {
    let time_is_shown = match address.version {
        Version::At(time) => {
            time.nanos() == 999_999_999 && (0..SECONDS_END).contains(&time.seconds())
        }
        Version::Number(_) | Version::Latest(_) => true,
    };
    time_is_shown && address.path.to_string().as_bytes() == address.path.as_bytes()
}

/// One execution.
pub fn run(data: &[u8]) {
    let Ok(address) = BackupAddress::parse(data, NOW) else { return };
    let shown = address.to_string();
    if is_shown_whole(&address) {
        let again = BackupAddress::parse(shown.as_bytes(), NOW).expect("what is shown is read");
        assert_eq!(again, BackupAddress { has_version: true, ..address });
    }
}
