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
/// Few boxes are common and many are rare.
const BOXES_MAX: u64 = 4;

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
    let (minute, second) = (numbers.below(60), numbers.below(60_000_000));
    let (person, seconds) = (numbers.below(40), numbers.below(100_000));
    write!(
        out,
        "{{\"id\": {number}, \"data\": {{\"image\": \"s3://pictures/{:016x}.jpg\"}}, \
         \"annotations\": [{{\"completed_by\": {person}, \"created_at\": \
         \"2026-03-04T10:{minute:02}:{:02}.{:06}Z\", \"lead_time\": {}.{:03}, \
         \"was_cancelled\": false, \"ground_truth\": false, \"result\": [",
        numbers.next(),
        second / 1_000_000,
        second % 1_000_000,
        seconds / 1000,
        seconds % 1000
    )?;
    let boxes = numbers.below(BOXES_MAX + 1) * numbers.below(BOXES_MAX);
    for n in 0..boxes {
        out.extend_from_slice(if n == 0 { b"" } else { b", " });
        bounding_box(numbers, out)?;
    }
    out.extend_from_slice(b"]}], \"predictions\": []}\n");
    Ok(())
}

fn bounding_box(numbers: &mut Numbers, out: &mut Vec<u8>) -> io::Result<()> {
    // Percent of the picture, with the digits of a single-precision number.
    let mut share = || format!("{}.{:06}", numbers.below(100), numbers.below(1_000_000));
    let (x, y, width, height) = (share(), share(), share(), share());
    let label = generate::pick(numbers, &LABELS);
    write!(
        out,
        "{{\"id\": \"{:010x}\", \"type\": \"rectanglelabels\", \"from_name\": \"label\", \
         \"to_name\": \"image\", \"value\": {{\"x\": {x}, \"y\": {y}, \"width\": {width}, \
         \"height\": {height}, \"rotation\": 0, \"rectanglelabels\": [\"{label}\"]}}}}",
        numbers.next() >> 24
    )
}
