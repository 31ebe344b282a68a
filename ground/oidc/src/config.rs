use std::time::Duration;

use culvert_wire::url::{ServerUrl, UrlError};
use serde_json::{Map, Value};

/// `minimum_jwk_refresh_time` of a file without one.
const REFRESH: Duration = Duration::from_secs(900);

/// The longest that counts.
const REFRESH_MAX: Duration = Duration::from_secs(366 * 86400);

/// What a provider's tokens must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `openid_configuration_url`: the discovery document.
    pub discovery: ServerUrl,
    /// `user_name_claim`: the claim with the user's name.
    pub user_name_claim: String,
    /// `required_claims`: claims with the only value that is taken.
    pub required_claims: Map<String, Value>,
    /// `group_claim`: the claim with the user's groups, a text or a list.
    pub group_claim: Option<String>,
    /// `minimum_jwk_refresh_time`: keys are not asked for more often.
    pub minimum_refresh: Duration,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or no object.
    #[error("no JSON object: {0}")]
    Json(#[source] serde_json::Error),
    /// A member is missing or of another type.
    #[error("'{name}' must be {what}")]
    Member {
        /// Its name.
        name: &'static str,
        /// What it has to be.
        what: &'static str,
    },
    /// The URL cannot be used.
    #[error("'openid_configuration_url': {0}")]
    Url(#[from] UrlError),
    /// Tokens of any provider with the same keys would do.
    #[error("'required_claims' must have 'iss'")]
    NoIssuer,
}

impl Config {
    /// Reads the file; members that are not known are left alone.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let members: Map<String, Value> = serde_json::from_slice(text).map_err(ConfigError::Json)?;
        let text_of = |name: &'static str| match members.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            None => Ok(None),
            Some(_) => Err(ConfigError::Member { name, what: "a text" }),
        };
        let needed = |name: &'static str| text_of(name)?.ok_or(ConfigError::Member { name, what: "a text" });
        let discovery = https(&needed("openid_configuration_url")?)?;
        let Some(Value::Object(required_claims)) = members.get("required_claims") else {
            let (name, what) = ("required_claims", "an object");
            return Err(ConfigError::Member { name, what });
        };
        if !required_claims.contains_key("iss") {
            return Err(ConfigError::NoIssuer);
        }
        let minimum_refresh = match members.get("minimum_jwk_refresh_time") {
            None => REFRESH,
            Some(seconds) => Duration::from_secs(seconds.as_u64().ok_or(ConfigError::Member {
                name: "minimum_jwk_refresh_time",
                what: "a number of seconds",
            })?)
            .min(REFRESH_MAX),
        };
        Ok(Self {
            discovery,
            user_name_claim: needed("user_name_claim")?,
            required_claims: required_claims.clone(),
            group_claim: text_of("group_claim")?,
            minimum_refresh,
        })
    }

    /// What the administrator should know about a configuration that is good.
    pub fn warning(&self) -> Option<&'static str> {
        (!self.required_claims.contains_key("aud")).then_some(
            "'required_claims' has no 'aud': tokens for any other service of the issuer are taken, too",
        )
    }
}

/// A URL that says itself that it is of HTTPS.
pub(crate) fn https(url: &str) -> Result<ServerUrl, UrlError> {
    if url.contains("://") {
        ServerUrl::parse(url)
    } else {
        Err(UrlError::NotHttps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"openid_configuration_url": "https://id.example/.well-known/openid-configuration",
        "user_name_claim": "preferred_username", "required_claims": {"aud": "vpn", "iss": "https://id.example"}, "x": 1}"#;

    #[test]
    fn the_usual_file() {
        let config = Config::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(
            config.discovery.request_target(),
            "/.well-known/openid-configuration"
        );
        assert_eq!(config.user_name_claim, "preferred_username");
        assert_eq!(
            (config.minimum_refresh, config.group_claim.as_deref()),
            (REFRESH, None)
        );
        assert_eq!((config.required_claims.len(), config.warning()), (2, None));
        let more = GOOD.replace(
            "\"x\": 1",
            "\"minimum_jwk_refresh_time\": 60, \"group_claim\": \"groups\"",
        );
        let config = Config::parse(more.as_bytes()).unwrap();
        assert_eq!(config.minimum_refresh, Duration::from_secs(60));
        assert_eq!(config.group_claim.as_deref(), Some("groups"));
        let never = GOOD.replace("\"x\": 1", "\"minimum_jwk_refresh_time\": 18446744073709551615");
        let config = Config::parse(never.as_bytes()).unwrap();
        assert_eq!(config.minimum_refresh, REFRESH_MAX);
        let for_anybody = GOOD.replace("\"aud\": \"vpn\", ", "");
        assert!(Config::parse(for_anybody.as_bytes()).unwrap().warning().is_some());
    }

    #[test]
    fn files_that_cannot_be_used() {
        for (find, replace, message) in [
            ("{\"openid", "[\"openid", "no JSON object"),
            ("user_name_claim", "name", "'user_name_claim' must be a text"),
            ("\"preferred_username\"", "7", "'user_name_claim' must be a text"),
            ("required_claims", "claims", "'required_claims' must be an object"),
            ("\"iss\"", "\"issuer\"", "'required_claims' must have 'iss'"),
            (
                "https://id.example/",
                "http://id.example/",
                "'openid_configuration_url': Only https://",
            ),
            (
                "https://id.example/",
                "id.example/",
                "'openid_configuration_url': Only https://",
            ),
            (
                "https://id.example/",
                "https:///",
                "'openid_configuration_url': Failed to parse",
            ),
            (
                "\"x\": 1",
                "\"minimum_jwk_refresh_time\": \"9\"",
                "must be a number of seconds",
            ),
        ] {
            let error = Config::parse(GOOD.replacen(find, replace, 1).as_bytes()).unwrap_err();
            assert!(error.to_string().contains(message), "{replace}: {error}");
        }
    }
}
