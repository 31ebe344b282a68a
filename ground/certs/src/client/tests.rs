use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;

use super::*;

const UID: &str = "0.9.2342.19200300.100.1.1";

struct Authority {
    params: CertificateParams,
    key: KeyPair,
    anchors: Anchors,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let certificate = params.self_signed(&key).unwrap();
        let mut anchors = Anchors::new();
        anchors.add(certificate.der().clone()).unwrap();
        Self { params, key, anchors }
    }

    fn issue(&self, adapt: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(vec![7]));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(
            DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 1]),
            "alice",
        );
        adapt(&mut params);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        params.signed_by(&key, &issuer).unwrap().der().clone()
    }

    fn list(&self, serial: u8, next_update_year: i32) -> Vec<u8> {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(next_update_year, 1, 1),
            crl_number: SerialNumber::from(vec![1]),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(vec![serial]),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer = Issuer::from_params(&self.params, &self.key);
        list.signed_by(&issuer).unwrap().pem().unwrap().into_bytes()
    }

    fn check(&self, certificate: &CertificateDer<'static>) -> Result<(), ClientRefusal> {
        self.check_with(certificate, &RevocationLists::default())
    }

    fn check_with(
        &self,
        certificate: &CertificateDer<'static>,
        lists: &RevocationLists,
    ) -> Result<(), ClientRefusal> {
        check_client_chain(
            &self.anchors,
            lists,
            std::slice::from_ref(certificate),
            UnixTime::now(),
        )
    }
}

#[test]
fn chain_dates_and_purposes() {
    let authority = Authority::new();
    assert_eq!(authority.check(&authority.issue(|_| {})), Ok(()));
    let purposes = |list: &[ExtendedKeyUsagePurpose]| {
        authority.check(&authority.issue(|params| params.extended_key_usages = list.to_vec()))
    };
    assert_eq!(purposes(&[ExtendedKeyUsagePurpose::ClientAuth]), Ok(()));
    assert_eq!(purposes(&[ExtendedKeyUsagePurpose::Any]), Ok(()));
    assert_eq!(
        purposes(&[ExtendedKeyUsagePurpose::ServerAuth]),
        Err(ClientRefusal::Purpose)
    );
    let signs = authority.issue(|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]);
    assert_eq!(authority.check(&signs), Err(ClientRefusal::Purpose));
    let expired = authority.issue(|params| params.not_after = date_time_ymd(2020, 1, 1));
    assert_eq!(
        authority.check(&expired),
        Err(ClientRefusal::Chain("certificate expired"))
    );
    let early = authority.issue(|params| params.not_before = date_time_ymd(3020, 1, 1));
    assert_eq!(
        authority.check(&early),
        Err(ClientRefusal::Chain("certificate not yet activated"))
    );
    // Another authority of the same name.
    assert_eq!(
        authority.check(&Authority::new().issue(|_| {})),
        Err(ClientRefusal::Chain("signature verification failed"))
    );
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
    assert_eq!(
        authority.check(own.der()),
        Err(ClientRefusal::Chain("signer not found"))
    );
    let garbage = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
    assert_eq!(
        authority.check(&garbage),
        Err(ClientRefusal::Unreadable(CertError::Malformed))
    );
}

#[test]
fn revocation() {
    let authority = Authority::new();
    let certificate = authority.issue(|_| {});
    let read = |text: &[u8]| RevocationLists::read(text, &authority.anchors);
    let check =
        |serial, year| authority.check_with(&certificate, &read(&authority.list(serial, year)).unwrap());
    assert_eq!(check(8, 3000), Ok(()));
    assert_eq!(check(7, 3000), Err(ClientRefusal::Revoked));
    assert_eq!(check(7, 2021), Err(ClientRefusal::Revoked));
    assert_eq!(check(8, 2021), Err(ClientRefusal::StaleList));

    // In the name of this authority, by another one.
    let forged = Authority::new().list(8, 3000);
    assert_eq!(read(&forged).unwrap_err(), CertError::ListSignature);
    let anybody = RevocationLists::read(&forged, &Anchors::new()).unwrap();
    assert_eq!(authority.check_with(&certificate, &anybody), Ok(()));
    assert_eq!(read(b"").unwrap_err(), CertError::MalformedList);
    assert_eq!(read(b"no list").unwrap_err(), CertError::MalformedList);
    let both = [authority.list(8, 3000), authority.list(7, 3000)].concat();
    let both = read(&both).unwrap();
    assert_eq!(
        authority.check_with(&certificate, &both),
        Err(ClientRefusal::Revoked)
    );
}

#[test]
fn names() {
    let authority = Authority::new();
    let certificate = authority.issue(|params| {
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, "staff");
        params.subject_alt_names = vec![
            SanType::DnsName("x.test".try_into().unwrap()),
            SanType::Rfc822Name("alice@test".try_into().unwrap()),
            SanType::Rfc822Name("bob@test".try_into().unwrap()),
        ];
    });
    assert_eq!(subject_values(&certificate, UID).unwrap(), ["alice"]);
    assert_eq!(subject_values(&certificate, "2.5.4.11").unwrap(), ["staff"]);
    assert!(subject_values(&certificate, "2.5.4.3").unwrap().is_empty());
    assert_eq!(first_email(&certificate).unwrap().as_deref(), Some("alice@test"));
    let other = authority.issue(|params| {
        params.subject_alt_names = vec![SanType::DnsName("x.test".try_into().unwrap())];
    });
    assert_eq!(first_email(&other).unwrap(), None);
    assert_eq!(first_email(&authority.issue(|_| {})).unwrap(), None);
}

proptest::proptest! {
    #[test]
    fn a_damaged_list_never_panics(at in 0usize..2000, octet: u8) {
        let authority = Authority::new();
        let mut list = CertificateRevocationListDer::from_pem_slice(&authority.list(7, 3000)).unwrap().to_vec();
        let at = at % list.len();
        list[at] = octet;
        if let Ok(list) = RevocationLists::read(&list, &authority.anchors) {
            let _ = authority.check_with(&authority.issue(|_| {}), &list);
        }
    }
}
