//! crypt(3) strings: `$5$`, `$6$`, `$y$`, `$2a$ $2b$ $2y$`, `$1$`.

mod md5_crypt;

use data_encoding::{Encoding, Specification};
use sha_crypt::{Sha256Params, Sha512Params};
use subtle::ConstantTimeEq;
use yescrypt::{PasswordVerifier, Yescrypt};

/// Characters that salts and hashes are made of.
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SALT_LEN: usize = 16;

/// Rounds of `$5$` and `$6$`: the default, and the limits that crypt(3) clamps to.
const SHA_ROUNDS_DEFAULT: usize = 5000;
const SHA_ROUNDS_MIN: usize = 1000;
/// More would keep a core busy for over ten seconds per login.
const SHA_ROUNDS_MAX: usize = 10_000_000;
/// log2 of the rounds of `$2b$`; more takes over ten seconds.
const BCRYPT_COST_MAX: u32 = 16;
/// Memory of one `$y$` computation, in bytes.
const YESCRYPT_MEMORY_MAX: u64 = 256 << 20;

/// Why a password cannot be hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// The system gave no random numbers for the salt.
    #[error("cannot get random numbers from the system")]
    Random(#[source] getrandom::Error),
    /// The hash function refused.
    #[error("cannot hash the password")]
    Hash,
}

/// A crypt(3) string for `password`: SHA-256 crypt (`$5$`) with a random salt of 16 characters.
///
/// # Errors
/// No random numbers.
pub fn hash_password(password: &[u8]) -> Result<String, HashError> {
    let mut salt = [0; SALT_LEN];
    getrandom::fill(&mut salt).map_err(HashError::Random)?;
    // 256 is a multiple of 64: every character is equally likely
    let salt: String = salt
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 64)]))
        .collect();
    let hash = sha256(password, salt.as_bytes(), SHA_ROUNDS_DEFAULT).ok_or(HashError::Hash)?;
    Ok(format!("$5${salt}${hash}"))
}

fn sha256(password: &[u8], salt: &[u8], rounds: usize) -> Option<String> {
    sha_crypt::sha256_crypt_b64(password, salt, &Sha256Params::new(rounds).ok()?).ok()
}

fn sha512(password: &[u8], salt: &[u8], rounds: usize) -> Option<String> {
    sha_crypt::sha512_crypt_b64(password, salt, &Sha512Params::new(rounds).ok()?).ok()
}

/// A crypt(3) string of a scheme that this program has, with acceptable cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CryptHash {
    scheme: Scheme,
    /// The whole string.
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    Sha256(ShaParts),
    Sha512(ShaParts),
    Bcrypt { cost: u32 },
    Yescrypt { memory: u64 },
    Md5 { salt: String, hash: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ShaParts {
    rounds: usize,
    salt: String,
    hash: String,
}

impl CryptHash {
    /// `None` for unknown schemes, malformed strings and immoderate costs.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let scheme = match text.strip_prefix('$')?.split_once('$')? {
            ("5", rest) => Scheme::Sha256(ShaParts::parse(rest)?),
            ("6", rest) => Scheme::Sha512(ShaParts::parse(rest)?),
            ("1", rest) => {
                let (salt, hash) = rest.split_once('$')?;
                Scheme::Md5 {
                    salt: salt.to_owned(),
                    hash: hash.to_owned(),
                }
            }
            ("2a" | "2b" | "2y", rest) => {
                let cost = rest.split_once('$')?.0.parse().ok()?;
                if cost > BCRYPT_COST_MAX {
                    return None;
                }
                Scheme::Bcrypt { cost }
            }
            ("y", rest) => {
                let params: yescrypt::Params = rest.split_once('$')?.0.parse().ok()?;
                let memory = params.n().saturating_mul(params.r().into()).saturating_mul(128);
                if memory > YESCRYPT_MEMORY_MAX {
                    return None;
                }
                Scheme::Yescrypt { memory }
            }
            _ => return None,
        };
        Some(Self {
            scheme,
            text: text.to_owned(),
        })
    }

    /// True when `password` gives this hash. Takes the same time wherever the hashes differ.
    pub(crate) fn verify(&self, password: &[u8]) -> bool {
        match &self.scheme {
            Scheme::Sha256(parts) => parts.matches(sha256(password, parts.salt.as_bytes(), parts.rounds)),
            Scheme::Sha512(parts) => parts.matches(sha512(password, parts.salt.as_bytes(), parts.rounds)),
            Scheme::Bcrypt { .. } => bcrypt::verify(password, &self.text).unwrap_or(false),
            Scheme::Yescrypt { .. } => Yescrypt::default()
                .verify_password(password, self.text.as_str())
                .is_ok(),
            Scheme::Md5 { salt, hash } => md5_crypt::md5_crypt(password, salt.as_bytes())
                .as_bytes()
                .ct_eq(hash.as_bytes())
                .into(),
        }
    }

    /// Rough time of one verification, in microseconds; for choosing the dearest.
    pub(crate) fn cost(&self) -> u64 {
        match &self.scheme {
            Scheme::Sha256(parts) => parts.rounds as u64 / 2,
            Scheme::Sha512(parts) => parts.rounds as u64 / 2 + 1,
            Scheme::Bcrypt { cost } => 50 << cost,
            Scheme::Yescrypt { memory } => memory / 500,
            Scheme::Md5 { .. } => 200,
        }
    }
}

impl ShaParts {
    /// Reads `[rounds=N$]SALT$HASH`.
    fn parse(text: &str) -> Option<Self> {
        let (rounds, text) = match text.strip_prefix("rounds=") {
            Some(text) => {
                let (rounds, text) = text.split_once('$')?;
                (rounds.parse::<usize>().ok()?.max(SHA_ROUNDS_MIN), text)
            }
            None => (SHA_ROUNDS_DEFAULT, text),
        };
        let (salt, hash) = text.split_once('$')?;
        (rounds <= SHA_ROUNDS_MAX).then(|| Self {
            rounds,
            salt: salt.to_owned(),
            hash: hash.to_owned(),
        })
    }

    fn matches(&self, computed: Option<String>) -> bool {
        computed.is_some_and(|computed| computed.as_bytes().ct_eq(self.hash.as_bytes()).into())
    }
}

/// crypt(3)'s base 64: its own alphabet, least significant bits first.
fn crypt_base64() -> Option<Encoding> {
    let mut specification = Specification::new();
    specification
        .symbols
        .push_str(std::str::from_utf8(ALPHABET).ok()?);
    specification.bit_order = data_encoding::BitOrder::LeastSignificantFirst;
    specification.encoding().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verifies(hash: &str, password: &str) -> bool {
        CryptHash::parse(hash).is_some_and(|hash| hash.verify(password.as_bytes()))
    }

    #[test]
    fn vectors() {
        for (hash, password) in [
            (
                "$5$FF9OqbbHTnNMAwpg$Yru/4FqL0FouvwAWHBg0fGdDRl.Vq8ADHj9sB1Vmm31",
                "pw1",
            ),
            (
                "$5$i6SNmLDCgBNjyJ7q$SZ4bVJb7I/DLgXo3txHBVohRFBjOtdbxGQZp.DOnrA.",
                "test",
            ),
            ("$1$abcdefgh$IQtUouv7y7Q9dRWkQEPCc.", "pw"),
        ] {
            assert!(verifies(hash, password), "{hash}");
            assert!(!verifies(hash, "wrong"), "{hash}");
            assert!(!verifies(hash, ""), "{hash}");
        }
    }

    #[test]
    fn new_hashes_verify_and_differ() {
        let first = hash_password(b"secret").expect("random numbers");
        let second = hash_password(b"secret").expect("random numbers");
        assert_ne!(first, second);
        assert!(verifies(&first, "secret") && verifies(&second, "secret") && !verifies(&first, "Secret"));
        let salt = first.split('$').nth(2).expect("salt");
        assert!(first.starts_with("$5$") && salt.len() == 16);
        let empty = hash_password(b"").expect("random numbers");
        assert!(
            verifies(&empty, "") && !verifies(&empty, "x"),
            "the empty password is a password"
        );
    }

    #[test]
    fn unknown_malformed_and_immoderate_hashes_are_no_hashes() {
        for hash in [
            "",
            "*",
            "!$5$a$b",
            "abzlUXK5ed5rs",
            "$5$",
            "$5$salt",
            "$7$salt$hash",
            "$6$rounds=x$salt$hash",
            "$6$rounds=999999999$salt$hash",
            "$2b$31$abcdefghijklmnopqrstuuHIrMEWpUCQe2YqFR3sXwQ75u4od..9q",
            "$2b$xx$abc",
            "$y$jzzzz$salt$hash",
            "$y$$salt$hash",
        ] {
            assert_eq!(CryptHash::parse(hash), None, "{hash}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\$(1|5|6|2b|y)\\$(rounds=1000\\$|04\\$|j7T\\$)?[./a-zA-Z0-9é$]{0,60}") {
            if let Some(hash) = CryptHash::parse(&text) {
                prop_assert!(!hash.verify(b"pw"));
            }
        }
    }
}
