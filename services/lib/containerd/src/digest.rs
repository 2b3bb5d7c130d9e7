//! Digests: of bytes, and of a stack of layers.

use sha2::{Digest as _, Sha256};

/// Digest of `bytes`, as OCI writes it: `sha256:` and 64 hex digits.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// The chain id of every layer: the name of the snapshot that holds it and all below it.
///
/// `diff_ids` are the digests of the uncompressed layers, lowest first; the last of the result is
/// the image's whole root file system.
#[must_use]
pub fn chain_ids<S: AsRef<str>>(diff_ids: &[S]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let diff_id = diff_id.as_ref();
        chain.push(match chain.last() {
            Some(below) => sha256(format!("{below} {diff_id}").as_bytes()),
            None => diff_id.to_owned(),
        });
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_id_is_the_digest_of_the_chain_below_and_the_layer() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), empty);
        assert_eq!(chain_ids::<&str>(&[]), Vec::<String>::new());
        let chain = chain_ids(&["sha256:a", "sha256:b", "sha256:c"]);
        assert_eq!(chain[0], "sha256:a");
        assert_eq!(chain[1], sha256(b"sha256:a sha256:b"));
        assert_eq!(chain[2], sha256(format!("{} sha256:c", chain[1]).as_bytes()));
    }
}
