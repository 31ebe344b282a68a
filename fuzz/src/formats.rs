use culvert_certs::{
    CertificateChain, certificate_text, common_name, server_end_point, spki_of, spki_pin, subject,
    subjects_of_pem, validity,
};
use culvert_kkdcp::{ProxyMessage, encode_reply, is_too_big};
use culvert_wire::form;
use culvert_wire::url::ServerUrl;
use culvert_wire::xml;

/// What was read can be written, and is then read without loss of elements.
pub(crate) fn xml(data: &[u8]) {
    if let Ok(root) = xml::parse(data) {
        let mut text = String::new();
        root.write_to(&mut text);
        let _ = xml::parse(text.as_bytes());
    }
}

pub(crate) fn url_and_form(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (first, second) = text.split_once('\n').unwrap_or((&text, ""));
    if let Ok(server) = ServerUrl::parse(first) {
        let _ = server.redirect(second);
        let _ = (server.host_header(), server.request_target());
    }
    if let Ok(fields) = form::decode(&text) {
        let pairs = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let _ = form::decode(&form::encode(pairs));
    }
}

/// The body of a request to the proxy for KDCs.
pub(crate) fn kdc_proxy_message(data: &[u8]) {
    if let Ok(parsed) = ProxyMessage::parse(data) {
        let framed = encode_reply(parsed.message);
        assert_eq!(
            ProxyMessage::parse(&framed).map(|again| again.message),
            Ok(parsed.message)
        );
    }
    let _ = is_too_big(data);
}

/// A certificate, as DER and as PEM.
pub(crate) fn certificate(data: &[u8]) {
    let _ = (
        spki_of(data),
        spki_pin(data),
        common_name(data),
        server_end_point(data),
    );
    let _ = (subject(data), validity(data), certificate_text(data));
    let _ = subjects_of_pem(data);
    let _ = CertificateChain::from_pem_without_key(data);
}

/// A key file of a TPM.
pub(crate) fn tpm_key_file(data: &[u8]) {
    if let Ok(Some(key)) = culvert_tpm::KeyFile::parse(data) {
        let _ = key.spki();
    }
}
