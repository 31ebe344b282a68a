//! The XML profile that a gateway offers (`specs/anyconnect.md` §4.1).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use culvert_wire::xml::Element;
use data_encoding::HEXLOWER;

/// SHA-1 of a profile, by which gateways name its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileHash(String);

impl ProfileHash {
    /// The hash of this profile.
    pub fn of(profile: &[u8]) -> Self {
        Self(HEXLOWER.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, profile).as_ref()))
    }
}

/// Where a profile is, and which one it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProfileOffer {
    /// A redirect target.
    pub(super) uri: String,
    pub(super) hash: ProfileHash,
}

impl ProfileOffer {
    fn new(uri: &str, hash: &str) -> Option<Self> {
        let (uri, hash) = (uri.trim(), hash.trim().to_ascii_lowercase());
        (!uri.is_empty() && !hash.is_empty()).then(|| Self {
            uri: uri.to_owned(),
            hash: ProfileHash(hash),
        })
    }

    /// The first complete offer in the `config` of a document.
    pub(super) fn in_document(root: &Element) -> Option<Self> {
        let all = |element: &'static str| move |parent: &&Element| parent.name == element;
        let vpns = root
            .elements()
            .filter(all("config"))
            .flat_map(Element::elements)
            .filter(all("vpn-profile-manifest"))
            .flat_map(Element::elements)
            .filter(|vpn| vpn.name == "vpn" && vpn.attribute("rev") == Some("1.0"));
        let mut files = vpns.flat_map(Element::elements).filter(|file| {
            file.name == "file"
                && file.attribute("type") == Some("profile")
                && file.attribute("service-type") == Some("user")
        });
        files.find_map(|file| Self::new(&file.child("uri")?.text(), &file.child("hash")?.text()))
    }

    /// The offer in the value of the cookie `webvpnc`. Percent codes in it are left alone.
    pub(super) fn in_cookie(webvpnc: &str) -> Option<Self> {
        let part = |key: &str| {
            let mut parts = webvpnc.split('&');
            parts.find_map(|part| part.strip_prefix(key)?.strip_prefix(':'))
        };
        let uri = format!("{}{}", part("bu")?, part("fu")?);
        Self::new(&uri, part("fh")?)
    }
}

#[cfg(test)]
mod tests {
    use culvert_wire::xml;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn offers_in_documents() {
        let file = |uri: &str, hash: &str| {
            format!(
                "<file type='profile' service-type='user'><uri>{uri}</uri><hash type='sha1'>{hash}</hash></file>"
            )
        };
        let document = |files: &str| {
            let text = format!(
                "<config-auth><config><x/><vpn-profile-manifest><vpn rev='1.0'>{files}</vpn></vpn-profile-manifest></config></config-auth>"
            );
            ProfileOffer::in_document(&xml::parse(text.as_bytes()).unwrap())
        };
        let offer = document(&(file("/a", "") + &file(" /b\n", "ABCD") + &file("/c", "EF"))).unwrap();
        assert_eq!((offer.uri.as_str(), offer.hash.0.as_str()), ("/b", "abcd"));
        assert_eq!(document("<file type='profile'><uri>/a</uri></file>"), None);
        assert_eq!(document(""), None);
    }

    #[test]
    fn offers_in_cookies() {
        let offer =
            ProfileOffer::in_cookie("bu:/CACHE/&p:t&iu:1/&sh:AABB&fu:profiles%2Fp.xml&fh:CCDD").unwrap();
        assert_eq!(
            (offer.uri.as_str(), offer.hash.0.as_str()),
            ("/CACHE/profiles%2Fp.xml", "ccdd")
        );
        for incomplete in ["bu:/&fu:p.xml", "bu:/&fh:A", "fu:x&fh:A", "", "bu:&fu:&fh:A"] {
            assert_eq!(ProfileOffer::in_cookie(incomplete), None, "{incomplete}");
        }
    }

    #[test]
    fn the_hash_of_the_capture() {
        assert_eq!(
            ProfileHash::of(b"<x/>").0,
            "2401adb2cffefdbfcd7f63f17b91a5d946e7855c"
        );
    }

    proptest! {
        #[test]
        fn never_panics(cookie in "(bu:|fu:|fh:|&|x|:){0,12}") {
            let _ = ProfileOffer::in_cookie(&cookie);
        }
    }
}
