//! Names of images: containerd knows full ones only, and would take any text.

use crate::error::{Error, Result};

/// Checks that `name` is full: `HOST/PATH:TAG` or `HOST/PATH@DIGEST`. A short one would make an
/// image that neither containerd's tools nor BuildKit find again.
pub(crate) fn check(name: &str) -> Result<()> {
    let wrong = |why: &str| Err(Error::invalid(format!("image name `{name}`"), why));
    let Some((host, path)) = name.split_once('/') else {
        return wrong("it is not a full name such as docker.io/library/name:tag");
    };
    if !(host.contains(['.', ':']) || host == "localhost") {
        return wrong("it does not begin with a registry such as docker.io/");
    }
    let (path, rest) = match path.split_once('@') {
        Some((path, digest)) => (path, digest),
        None => path.rsplit_once(':').unwrap_or((path, "")),
    };
    if rest.is_empty() {
        return wrong("it has neither a tag nor a digest");
    }
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    let path = path.split(':').next().unwrap_or(path);
    if !path.split('/').all(is_part) {
        return wrong("its path has an empty part, or characters other than a-z 0-9 . _ - /");
    }
    if !rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:".contains(&b)) {
        return wrong("its tag has characters other than a-z A-Z 0-9 . _ -");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_names_are_taken() {
        for name in [
            "docker.io/inplace/python3:0123456789ab",
            "localhost/x:1",
            "127.0.0.1:5000/a/b.c:V1",
            "docker.io/library/x@sha256:00",
            "docker.io/library/x:tag@sha256:00",
        ] {
            assert!(check(name).is_ok(), "{name}");
        }
        for (name, why) in [
            ("python3", "not a full name"),
            ("inplace/python3:1", "registry"),
            ("docker.io/inplace/python3", "neither a tag"),
            ("docker.io/inplace/python3:", "neither a tag"),
            ("docker.io/In/x:1", "its path"),
            ("docker.io//x:1", "its path"),
            ("docker.io/a/../b:1 2", "its tag"),
        ] {
            let error = check(name).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(name), "{error}");
        }
    }
}
