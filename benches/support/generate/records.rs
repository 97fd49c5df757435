//! Records as annotation tools export them: boxes with labels on pictures, one file a picture.

use crate::support::Numbers;
use crate::support::generate;
use std::fs;
use std::io;
use std::io::Write;
use std::path::Path;

const FILES_PER_FOLDER: u64 = 500;
const LABELS: [&str; 8] =
    ["car", "person", "bicycle", "traffic light", "truck", "dog", "bus", "stop sign"];
const BOXES: std::ops::Range<u64> = 1..19;

/// Writes `count` records of 0.3 to 4 KiB, 500 a folder.
pub(crate) fn records(folder: &Path, count: u64, seed: u64) -> io::Result<()> {
    let mut numbers = Numbers::new(seed);
    let mut bytes = Vec::new();
    for number in 0..count {
        let below = folder.join(format!("batch-{:04}", number / FILES_PER_FOLDER));
        if number.is_multiple_of(FILES_PER_FOLDER) {
            fs::create_dir_all(&below)?;
        }
        bytes.clear();
        record(number, &mut numbers, &mut bytes)?;
        fs::write(below.join(format!("task-{number:07}.json")), &bytes)?;
    }
    Ok(())
}

fn record(number: u64, numbers: &mut Numbers, out: &mut Vec<u8>) -> io::Result<()> {
    let (person, day, minute) = (numbers.below(40), 1 + numbers.below(28), numbers.below(60));
    write!(
        out,
        "{{\"id\": {number}, \"image\": \"s3://pictures/{:016x}.jpg\", \
         \"completed_by\": {person}, \"created_at\": \"2026-03-{day:02}T10:{minute:02}:00Z\", \
         \"cancelled\": false, \"result\": [",
        numbers.next(),
    )?;
    let boxes = BOXES.start + numbers.below(BOXES.end - BOXES.start);
    for n in 0..boxes {
        out.extend_from_slice(if n == 0 { b"" } else { b", " });
        bounding_box(numbers, out)?;
    }
    out.extend_from_slice(b"], \"predictions\": []}\n");
    Ok(())
}

fn bounding_box(numbers: &mut Numbers, out: &mut Vec<u8>) -> io::Result<()> {
    let label = generate::pick(numbers, &LABELS);
    // Percent of the picture.
    let mut share = || {
        let decimals = numbers.below(10_000_000_000);
        format!("{}.{decimals:010}", numbers.below(100))
    };
    let (x, y, width, height) = (share(), share(), share(), share());
    write!(
        out,
        "{{\"type\": \"rectanglelabels\", \"label\": \"{label}\", \"original_width\": 1920, \
         \"original_height\": 1080, \"value\": {{\"x\": {x}, \"y\": {y}, \"width\": {width}, \
         \"height\": {height}, \"rotation\": 0}}}}"
    )
}
