//! Made-up data: the same bytes for the same seed.

const WORDS: [&str; 32] = [
    "the", "of", "and", "snapshot", "a", "in", "dataset", "is", "to", "backup", "that", "ice",
    "for", "layer", "with", "as", "content", "by", "from", "name", "an", "folder", "file", "core",
    "0", "1", "1024", "2026", "error", "index", "block", "\n",
];

/// Makes numbers up (xorshift64*).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Starts at a seed.
    pub fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns the next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns bytes that nothing compresses.
    pub fn noise(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.draw().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// Returns words and blanks, frequent words more often, as in text.
    pub fn text(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 16);
        while bytes.len() < length {
            let draw = self.draw();
            // The lesser of two draws, so that the first words come more often.
            let word = (draw & 31).min(draw >> 8 & 31) as usize;
            bytes.extend_from_slice(WORDS[word].as_bytes());
            bytes.push(b' ');
            if draw >> 16 & 7 == 0 {
                bytes.extend_from_slice((draw >> 40).to_string().as_bytes());
            }
        }
        bytes.truncate(length);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::compress::Compressor;

    #[test]
    fn a_seed_gives_the_same_bytes_and_text_compresses_as_text_does() {
        assert_eq!(Numbers::new(7).noise(100), Numbers::new(7).noise(100));
        assert_ne!(Numbers::new(7).noise(100), Numbers::new(8).noise(100));
        assert_eq!(Numbers::new(7).text(1001).len(), 1001);
        let stored = |plain: &[u8]| {
            let mut out = Vec::new();
            let mut compressor = Compressor::new(3).expect("a level");
            compressor.compress(plain, &mut out).expect("compresses");
            out.len()
        };
        let text = stored(&Numbers::new(1).text(100_000));
        assert!((15_000..50_000).contains(&text), "{text}");
        assert!(stored(&Numbers::new(1).noise(100_000)) >= 100_000);
    }
}
