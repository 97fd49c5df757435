//! Photos and films, as far as a backup sees them: bytes that nothing compresses.

use crate::support::Numbers;
use crate::support::generate;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;

const MIB: u64 = 1 << 20;
const FILE_MIB_MAX: u64 = 20;
const FILES_PER_FOLDER: u64 = 20;

/// Writes files of 1 to 20 MiB, `bytes` in all.
pub(crate) fn media(folder: &Path, bytes: u64, seed: u64) -> io::Result<()> {
    let mut numbers = Numbers::new(seed);
    let mut buffer = Vec::with_capacity(MIB as usize);
    let (mut left, mut number) = (bytes, 0);
    while left > 0 {
        let below = folder.join(format!("{:02}", number / FILES_PER_FOLDER));
        fs::create_dir_all(&below)?;
        let length = MIB + numbers.below((FILE_MIB_MAX - 1) * MIB);
        let mut length = length.min(left);
        left -= length;
        let mut file = File::create(below.join(format!("{number:04}.jpg")))?;
        while length > 0 {
            buffer.clear();
            generate::noise(&mut numbers, length.min(MIB) as usize, &mut buffer);
            file.write_all(&buffer)?;
            length -= buffer.len() as u64;
        }
        number += 1;
    }
    Ok(())
}
