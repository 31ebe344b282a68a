//! A certificate authority for users.

use crate::fixture::Fixture;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};

/// Object identifier of UID.
pub const UID: &str = "0.9.2342.19200300.100.1.1";
/// Object identifier of OU.
pub const UNIT: &str = "2.5.4.11";

/// An authority that issues certificates to users.
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    /// An authority whose certificate is in the file `name`.
    ///
    /// # Panics
    /// There are no random numbers, or the file cannot be written; so everywhere below.
    pub fn new(fixture: &Fixture, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("authority {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        fixture.write_file(name, &params.self_signed(&key).unwrap().pem());
        Self { params, key }
    }

    /// Writes `name.pem` and `name.key`: a certificate with serial number 9 for this unit.
    pub fn issue(&self, fixture: &Fixture, name: &str, uid: Option<&str>, unit: Option<&str>) {
        self.issue_with(fixture, name, uid, unit, |_| {});
    }

    /// The same after `adapt`.
    pub fn issue_with(
        &self,
        fixture: &Fixture,
        name: &str,
        uid: Option<&str>,
        unit: Option<&str>,
        adapt: impl FnOnce(&mut CertificateParams),
    ) {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(vec![9]));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(uid) = uid {
            let kind = DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 1]);
            params.distinguished_name.push(kind, uid);
        }
        if let Some(unit) = unit {
            params
                .distinguished_name
                .push(DnType::OrganizationalUnitName, unit);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        adapt(&mut params);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fixture.write_file(&format!("{name}.pem"), &certificate.pem());
        fixture.write_file(&format!("{name}.key"), &key.serialize_pem());
    }

    /// Writes a list that revokes this serial number.
    pub fn revoke(&self, fixture: &Fixture, file: &str, serial: u8) {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(3000, 1, 1),
            crl_number: SerialNumber::from(vec![serial]),
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
        fixture.write_file(file, &list.signed_by(&issuer).unwrap().pem().unwrap());
    }
}

/// Makes a certificate one for this mail address only.
pub fn with_email(address: &'static str) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        params.subject_alt_names = vec![
            SanType::DnsName("host.test".try_into().unwrap()),
            SanType::Rfc822Name(address.try_into().unwrap()),
        ];
    }
}

/// Makes a certificate one for servers.
pub fn for_servers(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}

/// Makes a certificate one of the past.
pub fn expired(params: &mut CertificateParams) {
    params.not_after = date_time_ymd(2020, 1, 1);
}
