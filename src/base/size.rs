//! Sizes and rates as people write them.

use crate::base::error::Error;
use crate::base::error::Result;

/// Reads a size: `4096`, `100k`, `1.5 GiB`. All units are powers of 1024.
///
/// # Errors
/// `InvalidInput` when it is none.
///
/// ```
/// assert_eq!(icecore::base::size::parse_bytes("100k").unwrap(), 102_400);
/// ```
pub fn parse_bytes(text: &str) -> Result<u64> {
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(no_size(text)),
    };
    // A whole number is exact, however large.
    let whole = number.parse::<u64>().ok();
    if let Some(size) = whole.and_then(|whole| whole.checked_mul(1 << (10 * power))) {
        return Ok(size);
    }
    let number: f64 = number.parse().map_err(|_| no_size(text))?;
    let size = number * 1024_f64.powi(power);
    if size.is_finite() && size < u64::MAX as f64 { Ok(size as u64) } else { Err(no_size(text)) }
}

/// Reads bytes per second: a size, maybe with `/s` behind it. Nothing per second is refused, as
/// nothing would ever arrive.
///
/// # Errors
/// `InvalidInput` when it is none.
pub fn parse_rate(text: &str) -> Result<u64> {
    let trimmed = text.trim();
    let rate =
        parse_bytes(trimmed.strip_suffix("/s").unwrap_or(trimmed)).map_err(|_| no_rate(text))?;
    if rate > 0 { Ok(rate) } else { Err(no_rate(text)) }
}

fn no_size(text: &str) -> Error {
    Error::invalid(format!("{text:?} is no size: write 4096, 100k, 20M or 1.5G"))
}

fn no_rate(text: &str) -> Error {
    Error::invalid(format!("{text:?} is no rate: write bytes a second as 500k, 10M or 10 MiB/s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        assert_eq!(parse_bytes("4096").expect("a size"), 4096);
        assert_eq!(parse_bytes("100k").expect("a size"), 102_400);
        assert_eq!(parse_bytes("9007199254740993").expect("a size"), 9_007_199_254_740_993);
        assert_eq!(parse_bytes("1.5 GiB").expect("a size"), 1_610_612_736);
        for bad in ["", "k", "1x", "1.2.3", "-1", "99999999999999T"] {
            assert!(parse_bytes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rates_are_sizes_a_second() {
        assert_eq!(parse_rate("10M").expect("a rate"), 10 << 20);
        assert_eq!(parse_rate("1.5 MiB/s").expect("a rate"), 3 << 19);
        for bad in ["", "0", "0.2", "/s", "1/m", "fast"] {
            assert!(parse_rate(bad).is_err(), "{bad:?}");
        }
    }
}
