use culvert_wire::http::Headers;

/// Unique id that openconnect sends for mobile platforms.
const DEVICE_ID: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Operating system that the client claims to run on (`--os`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    name: String,
}

impl Platform {
    /// `linux`, `linux-64`, `win`, `mac-intel`, `android` or `apple-ios`; `None` for others.
    pub fn new(name: &str) -> Option<Self> {
        let known = ["linux", "linux-64", "win", "mac-intel", "android", "apple-ios"];
        known.contains(&name).then(|| Self {
            name: name.to_owned(),
        })
    }

    /// The name, as `device-id` in documents.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Attributes of `device-id`; mobile platforms only.
    pub(super) fn device_attributes(&self) -> Vec<(&'static str, &str)> {
        if !self.is_mobile() {
            return Vec::new();
        }
        vec![
            ("platform-version", "1.0"),
            ("device-type", &self.name),
            ("unique-id", DEVICE_ID),
        ]
    }

    /// Appends the identifier headers; mobile platforms only.
    pub(super) fn push_headers(&self, headers: &mut Headers, version: &str) {
        if !self.is_mobile() {
            return;
        }
        headers.push("X-AnyConnect-Identifier-ClientVersion", version);
        headers.push("X-AnyConnect-Identifier-Platform", &self.name);
        headers.push("X-AnyConnect-Identifier-PlatformVersion", "1.0");
        headers.push("X-AnyConnect-Identifier-DeviceType", &self.name);
        headers.push("X-AnyConnect-Identifier-Device-UniqueID", DEVICE_ID);
    }

    fn is_mobile(&self) -> bool {
        matches!(self.name.as_str(), "android" | "apple-ios")
    }
}
