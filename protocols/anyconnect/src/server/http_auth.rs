//! When a login uses HTTP authentication (`specs/server-auth.md` §1.3, `specs/anyconnect.md` §5.6).

use culvert_vocab::{HttpScheme, SecretString};
use culvert_wire::http::Headers;

use super::config::FrontEndConfig;

/// How a login goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The client has sent credentials.
    Credentials {
        /// Their scheme.
        scheme: HttpScheme,
        /// The rest of the line.
        token: SecretString,
    },
    /// The client is asked for credentials.
    Challenge,
    /// Without HTTP authentication.
    Form,
}

/// HTTP authentication of one connection.
#[derive(Debug, Default)]
pub(super) struct HttpAuth {
    /// The client was asked at least once.
    challenged: bool,
    /// It has failed: no more of it on this connection.
    failed: bool,
}

impl HttpAuth {
    /// The way of a request; `answers_form`: it carries fields of a form.
    pub(super) fn way(&mut self, config: &FrontEndConfig, headers: &Headers, answers_form: bool) -> Way {
        if config.http.is_empty() || self.failed {
            return Way::Form;
        }
        if let Some((scheme, token)) = credentials(headers, &config.http) {
            return Way::Credentials { scheme, token };
        }
        let knows_it = headers.get("X-Support-HTTP-Auth").is_some();
        let asked_first = config.http_first && !self.challenged;
        if config.without_form || (!answers_form && (knows_it || asked_first)) {
            self.challenged = true;
            Way::Challenge
        } else {
            Way::Form
        }
    }

    /// The form is the only way from now on.
    pub(super) fn give_up(&mut self) {
        self.failed = true;
    }
}

/// The first `Authorization` line with one of these schemes and something behind it.
fn credentials(headers: &Headers, offered: &[HttpScheme]) -> Option<(HttpScheme, SecretString)> {
    headers
        .get_all("Authorization")
        .filter_map(|line| line.trim().split_once(' '))
        .filter_map(|(name, token)| Some((HttpScheme::from_name(name)?, token.trim())))
        .find(|(scheme, token)| offered.contains(scheme) && !token.is_empty())
        .map(|(scheme, token)| (scheme, token.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEGOTIATE: HttpScheme = HttpScheme::Negotiate;
    const BEARER: HttpScheme = HttpScheme::Bearer;

    fn config(http: &[HttpScheme], http_first: bool, without_form: bool) -> FrontEndConfig {
        FrontEndConfig {
            http: http.to_vec(),
            http_first,
            without_form,
            ..FrontEndConfig::default()
        }
    }

    fn headers(lines: &[(&str, &str)]) -> Headers {
        lines.iter().copied().collect()
    }

    const NOTHING: &[(&str, &str)] = &[];
    const KNOWS_IT: &[(&str, &str)] = &[("x-support-http-auth", "true")];

    #[test]
    fn who_is_asked() {
        let way = |config: FrontEndConfig, lines, answers_form| {
            HttpAuth::default().way(&config, &headers(lines), answers_form)
        };
        assert_eq!(way(config(&[], true, true), KNOWS_IT, false), Way::Form);
        assert_eq!(way(config(&[NEGOTIATE], false, false), NOTHING, false), Way::Form);
        assert_eq!(
            way(config(&[NEGOTIATE], false, false), KNOWS_IT, false),
            Way::Challenge
        );
        assert_eq!(
            way(config(&[NEGOTIATE], false, true), NOTHING, true),
            Way::Challenge
        );
        assert_eq!(
            way(config(&[BEARER], true, false), NOTHING, false),
            Way::Challenge
        );
        assert_eq!(way(config(&[BEARER], true, false), NOTHING, true), Way::Form);
    }

    #[test]
    fn a_client_that_ignores_the_first_challenge_gets_the_form() {
        let config = config(&[BEARER], true, false);
        let mut http = HttpAuth::default();
        assert_eq!(http.way(&config, &headers(NOTHING), false), Way::Challenge);
        assert_eq!(http.way(&config, &headers(NOTHING), false), Way::Form);
        assert_eq!(http.way(&config, &headers(KNOWS_IT), false), Way::Challenge);
        http.give_up();
        let token = headers(&[("Authorization", "Bearer x")]);
        assert_eq!(http.way(&config, &token, false), Way::Form);
    }

    #[test]
    fn credentials_are_of_an_offered_scheme() {
        let found = |line: &str| credentials(&headers(&[("Authorization", line)]), &[NEGOTIATE]);
        assert_eq!(found("negotiate  YII="), Some((NEGOTIATE, "YII=".into())));
        for other in [
            "Negotiate",
            "Negotiate ",
            "NegotiateYII=",
            "Bearer x",
            "Basic eA==",
            "",
            " ",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
        let both = headers(&[("Authorization", "Basic x"), ("authorization", "Bearer y")]);
        assert_eq!(
            credentials(&both, &[NEGOTIATE, BEARER]),
            Some((BEARER, "y".into()))
        );
    }
}
