//! Cache keys: one digest over everything that a result depends on.

use std::path::Path;

use anyhow::Result;
use fs_err as fs;
use sha2::{Digest as _, Sha256};

/// Collects the named inputs of a step.
///
/// Names and values are written with their lengths, so that no two lists of inputs are the same
/// stream of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Key(Sha256);

impl Key {
    /// `recipe` changes whenever the code of the step would make something else of the same inputs.
    pub(crate) fn new(step: &str, recipe: u32) -> Self {
        Self(Sha256::new()).text("step", step).text("recipe", &recipe.to_string())
    }

    /// Adds a value.
    pub(crate) fn text(mut self, name: &str, value: &str) -> Self {
        for part in [name.as_bytes(), value.as_bytes()] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds the content of a file.
    pub(crate) fn file(self, name: &str, path: &Path) -> Result<Self> {
        Ok(self.text(name, &sha256_file(path)?))
    }

    /// The key as 16 hexadecimal digits, short enough for a folder's name.
    pub(crate) fn finish(self) -> String {
        hex(&self.0.finalize())[..16].to_owned()
    }
}

/// SHA-256 of a file's content, in hexadecimal.
pub(crate) fn sha256_file(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    std::io::copy(&mut fs::File::open(path)?, &mut hash)?;
    Ok(hex(&hash.finalize()))
}

/// SHA-256 of some bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn a_key_tells_every_input_apart() {
        let key = |parts: &[(&str, &str)], recipe| {
            parts
                .iter()
                .fold(Key::new("step", recipe), |key, (name, value)| key.text(name, value))
                .finish()
        };
        let base = key(&[("a", "1"), ("b", "2")], 1);
        assert_eq!(base, key(&[("a", "1"), ("b", "2")], 1), "the same inputs have the same key");
        for other in [
            key(&[("a", "1"), ("b", "3")], 1),
            key(&[("a", "1"), ("c", "2")], 1),
            key(&[("b", "2"), ("a", "1")], 1),
            key(&[("a", "1b"), ("", "2")], 1),
            key(&[("a", "1"), ("b", "2")], 2),
            key(&[("a", "1")], 1),
        ] {
            assert_ne!(base, other);
        }
    }
}
