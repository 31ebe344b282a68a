use culvert_vocab::SecretString;

/// Most cookies of one login.
const COOKIES_MAX: usize = 64;

/// A `Set-Cookie` line without `=`, or more cookies than any gateway sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid cookie offered by the server")]
pub struct BadCookie;

/// All cookies of a login: one flat list without paths, domains and expiry
/// (`specs/anyconnect.md` §2).
#[derive(Debug, Default)]
pub struct Jar(Vec<(String, SecretString)>);

impl Jar {
    /// Takes over a `Set-Cookie` line: only its first pair counts.
    ///
    /// # Errors
    /// No `=`, or too many cookies.
    pub fn absorb(&mut self, line: &str) -> Result<(), BadCookie> {
        let pair = line.split(';').next().unwrap_or_default();
        let (name, value) = pair.split_once('=').ok_or(BadCookie)?;
        self.set(name.trim(), value.trim())
    }

    /// Sets a cookie in its old place or at the end; an empty value deletes it.
    ///
    /// # Errors
    /// Too many cookies.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), BadCookie> {
        let known = self.0.iter().position(|(n, _)| n == name);
        match (known, value.is_empty()) {
            (Some(at), true) => {
                self.0.remove(at);
            }
            (None, true) => {}
            (Some(at), false) => {
                if let Some((_, old)) = self.0.get_mut(at) {
                    *old = value.into();
                }
            }
            (None, false) if self.0.len() < COOKIES_MAX => self.0.push((name.to_owned(), value.into())),
            (None, false) => return Err(BadCookie),
        }
        Ok(())
    }

    /// Value of a cookie.
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Value of the `Cookie` header; `None` without cookies.
    pub fn header(&self) -> Option<String> {
        let pairs: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| format!("{name}={}", value.expose()))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_delete_and_values_with_equals_sign() {
        let mut jar = Jar::default();
        for line in ["a=1; path=/; secure", "b=x=y", "c=3", "a=2", "c=; expires=never"] {
            jar.absorb(line).unwrap();
        }
        assert_eq!(jar.header().as_deref(), Some("a=2; b=x=y"));
        assert_eq!(jar.absorb("nonsense"), Err(BadCookie));
        jar.clear();
        assert_eq!(jar.header(), None);
    }

    #[test]
    fn bounded() {
        let mut jar = Jar::default();
        let refused = (0..100).find(|n| jar.set(&n.to_string(), "x").is_err());
        assert_eq!(refused, Some(COOKIES_MAX));
    }
}
