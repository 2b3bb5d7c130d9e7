//! The password of the owner, and what wrong ones cost.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fs_err as fs;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use tracing::warn;

mod slow;

use slow::Slow;

/// The one user.
const USER: &str = "admin";

/// Knows the password, as a hash under a key that only this process has.
#[derive(Debug)]
pub(crate) struct Login {
    key: [u8; 32],
    expected: [u8; 32],
    slow: Mutex<Slow>,
}

/// What became of a request's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They are right.
    Welcome,
    /// There are none.
    Missing,
    /// They are wrong.
    Wrong,
    /// They were not looked at: too many wrong ones came from there. Try again after this time.
    Later(Duration),
}

impl Login {
    /// Reads the password.
    pub(crate) fn open(password_file: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(password_file).context("reading the password")?;
        let password = text.trim();
        if password.is_empty() {
            bail!("the password file `{}` is empty", password_file.display());
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| anyhow!("making a key: {error}"))?;
        let expected = hash(&key, format!("{USER}:{password}").as_bytes());
        Ok(Self { key, expected, slow: Mutex::default() })
    }

    /// Judges the credentials (HTTP Basic) of a request that `peer` sent at `now`.
    pub(crate) fn check(&self, headers: &HeaderMap, peer: IpAddr, now: Instant) -> Verdict {
        let Some(value) = headers.get(AUTHORIZATION) else { return Verdict::Missing };
        // Judged under the lock: attempts sent at the same time do not overtake the count.
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait) = slow.wait(peer, now) {
            return Verdict::Later(wait);
        }
        // How long comparing two keyed hashes takes says nothing about the password.
        let right =
            basic(value.as_bytes()).is_some_and(|given| hash(&self.key, &given) == self.expected);
        if right {
            slow.right(peer);
            return Verdict::Welcome;
        }
        let count = slow.wrong(peer, now);
        drop(slow);
        warn!(%peer, count, "wrong credentials");
        Verdict::Wrong
    }
}

/// `USER:PASSWORD` out of `Basic BASE64`.
fn basic(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = value.split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    STANDARD.decode(rest.trim_ascii()).ok()
}

fn hash(key: &[u8; 32], text: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(key).chain_update(text).finalize().into()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn login() -> Login {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), " s3cret:with colon\n").unwrap();
        Login::open(file.path()).unwrap()
    }

    #[track_caller]
    fn check(login: &Login, value: &str, verdict: Verdict) {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        assert_eq!(login.check(&headers, PEER, Instant::now()), verdict, "{value}");
    }

    fn encoded(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn only_the_owner_with_the_password_is_welcome() {
        let login = login();
        assert_eq!(login.check(&HeaderMap::new(), PEER, Instant::now()), Verdict::Missing);
        check(&login, &encoded("admin:s3cret:with colon"), Verdict::Welcome);
        check(
            &login,
            &encoded("admin:s3cret:with colon").replace("Basic", "bASIC"),
            Verdict::Welcome,
        );
        for wrong in ["admin:", "admin:s3cret", "root:s3cret:with colon", "", ":"] {
            check(&login, &encoded(wrong), Verdict::Wrong);
            check(&login, &encoded("admin:s3cret:with colon"), Verdict::Welcome);
        }
    }

    #[test]
    fn what_is_no_basic_login_counts_as_wrong() {
        for value in ["Basic", "Basic !", "Bearer x", ""] {
            check(&login(), value, Verdict::Wrong);
        }
    }

    #[test]
    fn after_many_wrong_ones_even_the_right_one_has_to_wait() {
        let login = login();
        for _ in 0..slow::FREE {
            check(&login, &encoded("admin:guess"), Verdict::Wrong);
        }
        let mut headers = HeaderMap::new();
        let right = encoded("admin:s3cret:with colon");
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&right).unwrap());
        let verdict = login.check(&headers, PEER, Instant::now());
        assert!(matches!(verdict, Verdict::Later(_)), "{verdict:?}");
        let later = Instant::now() + Duration::from_secs(2);
        assert_eq!(login.check(&headers, PEER, later), Verdict::Welcome);
    }

    #[test]
    fn a_missing_or_empty_password_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let error = format!("{:#}", Login::open(&path).unwrap_err());
        assert!(error.contains("password`"), "{error}");
        fs::write(&path, "\n").unwrap();
        let error = format!("{:#}", Login::open(&path).unwrap_err());
        assert!(error.contains("is empty"), "{error}");
    }
}
