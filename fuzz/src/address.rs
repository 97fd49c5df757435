//! Addresses of backups as a person types them, read at a fixed time of the day.

use icecore::base::error::ErrorKind;
use icecore::base::time::Timestamp;
use icecore::engine::address::BackupAddress;
use icecore::engine::address::Version;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &["refused", "number", "latest", "time", "with a path", "shown"];
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
    let address = match BackupAddress::parse(data, NOW) {
        Ok(address) => address,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::InvalidInput, "{}", e.full_message());
            return reach("refused");
        }
    };
    reach(match address.version {
        Version::Number(_) => "number",
        Version::Latest(_) => "latest",
        Version::At(_) => "time",
    });
    if !address.path.is_root() {
        reach("with a path");
    }
    let shown = address.to_string();
    if is_shown_whole(&address) {
        let again = BackupAddress::parse(shown.as_bytes(), NOW).expect("what is shown is read");
        assert_eq!(again, BackupAddress { has_version: true, ..address });
        reach("shown");
    }
}
