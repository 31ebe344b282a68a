//! Form bodies: parameters in an order that matters, encoded as the reference does.

use culvert_vocab::SecretString;
use culvert_wire::form;

/// Parameters of a request or of a cookie, names and values already percent-encoded. May contain
/// secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, SecretString)>);

impl Parameters {
    /// No parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `a=b&c=d`; what is percent-encoded stays so.
    pub fn parse(text: &str) -> Self {
        Self(
            text.split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (name.to_owned(), value.into())
                })
                .collect(),
        )
    }

    /// Appends a parameter, to be encoded.
    #[must_use]
    pub fn with(self, name: &str, value: &str) -> Self {
        let pair = form::encode([(name, value)]);
        let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
        self.with_raw(name, value)
    }

    /// Appends a parameter as it is.
    #[must_use]
    pub fn with_raw(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    /// Appends a parameter if there is a value.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Appends all of `other`.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.0.extend(other.0.iter().cloned());
        self
    }

    /// Without the parameters of these names.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(name, _)| !names.contains(&name.as_str()))
                .cloned()
                .collect(),
        )
    }

    /// Only the parameters of these names.
    #[must_use]
    pub fn only(&self, names: &[&str]) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(name, _)| names.contains(&name.as_str()))
                .cloned()
                .collect(),
        )
    }

    /// The encoded value of the first parameter of this name.
    pub fn raw(&self, name: &str) -> Option<&SecretString> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// `a=b&c=d`.
    pub fn to_text(&self) -> SecretString {
        let pairs: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| format!("{name}={}", value.expose()))
            .collect();
        SecretString::new(pairs.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_as_the_reference_does() {
        let body = Parameters::new()
            .with_raw("prot", "https:")
            .with("passwd", "s3cret &+%/é")
            .with_some("absent", None);
        assert_eq!(
            body.to_text().expose(),
            "prot=https:&passwd=s3cret%20%26%2b%25%2f%c3%a9"
        );
    }

    #[test]
    fn text_survives() {
        let text = "authcookie=aa&portal=GW-N&user=j%40x&preferred-ip=&computer=vm";
        let parameters = Parameters::parse(text);
        assert_eq!(parameters.to_text().expose(), text);
        assert_eq!(
            parameters.only(&["user", "authcookie"]).to_text().expose(),
            "authcookie=aa&user=j%40x"
        );
        assert_eq!(parameters.raw("computer").map(SecretString::expose), Some("vm"));
    }
}
