//! XML as gateways and clients really send it: a tolerant reader that gives a small tree, and
//! escaping for the writers (`specs/anyconnect.md` §3). Entities other than the predefined ones
//! and character references are never expanded, a DTD is skipped, depth and size are bounded.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

/// Longest document, in octets.
const DOCUMENT_MAX: usize = 4 * 1024 * 1024;
/// Deepest nesting.
const DEPTH_MAX: usize = 64;
/// Most elements of a document.
const ELEMENTS_MAX: usize = 16384;
/// Longest reference that is resolved in an attribute, in octets.
const REFERENCE_MAX: usize = 32;

/// Why a document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// No element at all, or markup that cannot be followed even with tolerance.
    #[error("not an XML document: {0}")]
    Malformed(String),
    /// Longer, deeper or with more elements than any honest document.
    #[error("the XML document is too large or too deep")]
    TooLarge,
}

/// Part of an element's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Text, references resolved.
    Text(String),
}

/// An element with everything in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// Name as written, with a prefix if there is one.
    pub name: String,
    /// Attributes in order.
    pub attributes: Vec<(String, String)>,
    /// Content in order.
    pub children: Vec<Node>,
}

impl Element {
    /// An element without attributes and content.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// The same element with one more attribute.
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// The same element with one more child element.
    #[must_use]
    pub fn with_child(mut self, child: Element) -> Self {
        self.children.push(Node::Element(child));
        self
    }

    /// The same element with text appended; empty text adds nothing.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.is_empty() {
            self.children.push(Node::Text(text));
        }
        self
    }

    /// Value of the first attribute with this name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Child elements in order.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// First child element with this name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.elements().find(|element| element.name == name)
    }

    /// Text directly in this element, not in its children.
    pub fn text(&self) -> String {
        self.children
            .iter()
            .filter_map(|node| match node {
                Node::Text(text) => Some(text.as_str()),
                Node::Element(_) => None,
            })
            .collect()
    }

    /// Appends the element as XML, on one line unless its text has line breaks.
    pub fn write_to(&self, out: &mut String) {
        out.push('<');
        out.push_str(&self.name);
        for (name, value) in &self.attributes {
            out.push(' ');
            out.push_str(name);
            out.push_str("=\"");
            out.push_str(&escape(value));
            out.push('"');
        }
        if self.children.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        for child in &self.children {
            match child {
                Node::Element(element) => element.write_to(out),
                Node::Text(text) => escape_text(text, out),
            }
        }
        out.push_str("</");
        out.push_str(&self.name);
        out.push('>');
    }
}

/// Escapes text for use in content and in attribute values; characters that XML cannot carry
/// are left out.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            other => escape_char(other, &mut out),
        }
    }
    out
}

/// Escapes text for use in content, where quotes stay as they are.
fn escape_text(text: &str, out: &mut String) {
    for c in text.chars() {
        escape_char(c, out);
    }
}

fn escape_char(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '\r' => out.push_str("&#13;"),
        '\t' | '\n' => out.push(c),
        c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
        other => out.push(other),
    }
}

/// Reads a document. Bare `&`, unknown entities, end tags without start tags and elements that
/// are never closed do not fail it.
///
/// # Errors
/// See [`XmlError`].
pub fn parse(document: &[u8]) -> Result<Element, XmlError> {
    if document.len() > DOCUMENT_MAX {
        return Err(XmlError::TooLarge);
    }
    let text = String::from_utf8_lossy(document);
    let mut reader = Reader::from_str(&text);
    let config = reader.config_mut();
    config.check_end_names = false;
    config.allow_unmatched_ends = true;
    config.allow_dangling_amp = true;

    let mut tree = TreeBuilder::default();
    loop {
        let event = match reader.read_event() {
            Ok(event) => event,
            // The rest is unreadable; what was read so far may still be what matters.
            Err(error) => {
                return tree
                    .finish()
                    .ok_or_else(|| XmlError::Malformed(error.to_string()));
            }
        };
        match event {
            Event::Start(tag) => tree.open(read_tag(&tag))?,
            Event::Empty(tag) => {
                tree.open(read_tag(&tag))?;
                tree.close_innermost();
            }
            Event::End(tag) => tree.close(&String::from_utf8_lossy(tag.name().as_ref())),
            Event::Text(text) => tree.text(&String::from_utf8_lossy(&text)),
            Event::CData(text) => tree.text(&String::from_utf8_lossy(&text)),
            Event::GeneralRef(reference) => tree.text(&resolve_reference(&reference)),
            Event::Eof => break,
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => {}
        }
    }
    tree.finish()
        .ok_or_else(|| XmlError::Malformed("no element".into()))
}

fn read_tag(tag: &BytesStart<'_>) -> Element {
    let mut element = Element::new(String::from_utf8_lossy(tag.name().as_ref()));
    for attribute in tag.html_attributes().with_checks(false).flatten() {
        let name = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
        element
            .attributes
            .push((name, unescape(&String::from_utf8_lossy(&attribute.value))));
    }
    element
}

fn resolve_reference(reference: &BytesRef<'_>) -> String {
    let name = String::from_utf8_lossy(reference);
    match resolve(&name) {
        Some(c) => c.to_string(),
        None => format!("&{name};"),
    }
}

/// The character that `&name;` stands for; unknown names are kept as text by the callers.
fn resolve(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some('\u{a0}'),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code).filter(|&c| c != '\0')
        }
    }
}

/// Text with its references resolved; those that are none stay as they are.
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        let (before, reference) = rest.split_at(start);
        out.push_str(before);
        // Looked for nearby only: a text full of `&` must not cost the square of its length.
        let mut near = reference.bytes().take(REFERENCE_MAX);
        let end = near.position(|octet| octet == b';');
        let resolved = end.and_then(|end| Some((resolve(reference.get(1..end)?)?, end + 1)));
        let used = match resolved {
            Some((c, used)) => {
                out.push(c);
                used
            }
            None => {
                out.push('&');
                1
            }
        };
        rest = reference.get(used..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// Elements that are still open, outermost first, and the finished root.
#[derive(Default)]
struct TreeBuilder {
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
}

impl TreeBuilder {
    fn open(&mut self, element: Element) -> Result<(), XmlError> {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX || self.open.len() == DEPTH_MAX {
            return Err(XmlError::TooLarge);
        }
        self.open.push(element);
        Ok(())
    }

    /// Closes the innermost open element with this name and everything inside it; an end tag
    /// that fits nothing is ignored.
    fn close(&mut self, name: &str) {
        let Some(depth) = self.open.iter().rposition(|element| element.name == name) else {
            return;
        };
        while self.open.len() > depth {
            self.close_innermost();
        }
    }

    fn close_innermost(&mut self) {
        let Some(element) = self.open.pop() else {
            return;
        };
        match self.open.last_mut() {
            Some(parent) => parent.children.push(Node::Element(element)),
            // A second root is junk after the document.
            None => self.root = self.root.take().or(Some(element)),
        }
    }

    fn text(&mut self, text: &str) {
        let Some(parent) = self.open.last_mut() else {
            return;
        };
        match parent.children.last_mut() {
            Some(Node::Text(before)) => before.push_str(text),
            _ => parent.children.push(Node::Text(text.to_owned())),
        }
    }

    fn finish(mut self) -> Option<Element> {
        while !self.open.is_empty() {
            self.close_innermost();
        }
        self.root
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_form_document() {
        let root = parse(
            b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<config-auth type='auth-request'>\n<!-- c -->\
              <opaque is-for=\"sg\"><x>1</x></opaque><auth id=\"main\"><message>a &lt;b&#x20;&#38; <![CDATA[<c>]]></message></auth></config-auth>",
        )
        .unwrap();
        assert_eq!(
            (root.name.as_str(), root.attribute("type")),
            ("config-auth", Some("auth-request"))
        );
        let auth = root.child("auth").unwrap();
        assert_eq!(auth.child("message").unwrap().text(), "a <b & <c>");
        let mut opaque = String::new();
        root.child("opaque").unwrap().write_to(&mut opaque);
        assert_eq!(opaque, "<opaque is-for=\"sg\"><x>1</x></opaque>");
    }

    #[test]
    fn broken_content_does_not_fail_the_document() {
        let root = parse(
            b"<c><auth id=\"success\"><banner>Welcome <b></banner></auth><m>a & b &unknown; &#0;</m></x></c>",
        )
        .unwrap();
        assert_eq!(
            root.child("auth").unwrap().child("banner").unwrap().text(),
            "Welcome "
        );
        assert_eq!(root.child("m").unwrap().text(), "a & b &unknown; &#0;");
    }

    #[test]
    fn missing_end_tags_and_lone_ampersands_in_attributes() {
        let root = parse(b"<a x=\"1&2&lt;&nope;\"><b>t").unwrap();
        assert_eq!(root.attribute("x"), Some("1&2<&nope;"));
        assert_eq!(root.child("b").unwrap().text(), "t");
    }

    #[test]
    fn entities_of_a_dtd_are_not_expanded() {
        let bomb =
            b"<!DOCTYPE a [<!ENTITY x \"yyyyyyyy\"><!ENTITY z SYSTEM \"file:///etc/passwd\">]><a>&x;&z;</a>";
        assert_eq!(parse(bomb).unwrap().text(), "&x;&z;");
    }

    #[test]
    fn limits() {
        assert_eq!(parse("<a>".repeat(65).as_bytes()), Err(XmlError::TooLarge));
        assert!(parse("<a>".repeat(64).as_bytes()).is_ok());
        assert_eq!(
            parse(format!("<a>{}</a>", "<b/>".repeat(16384)).as_bytes()),
            Err(XmlError::TooLarge)
        );
        assert_eq!(parse(&vec![b' '; DOCUMENT_MAX + 1]), Err(XmlError::TooLarge));
        for nothing in [&b""[..], b"nope", b"\xff\xfe", b"<!-- -->", b"<"] {
            assert!(
                matches!(parse(nothing), Err(XmlError::Malformed(_))),
                "{}",
                nothing.escape_ascii()
            );
        }
    }

    #[test]
    fn escaping() {
        assert_eq!(escape("a<b>&\"'\u{1}\r"), "a&lt;b&gt;&amp;&quot;&apos;&#13;");
        let mut out = String::new();
        Element::new("p")
            .with_attribute("a", "\"<")
            .with_text("it's \"<&>\"")
            .write_to(&mut out);
        assert_eq!(out, "<p a=\"&quot;&lt;\">it's \"&lt;&amp;&gt;\"</p>");
    }

    fn element() -> impl Strategy<Value = Element> {
        let name = "[a-z][a-z0-9-]{0,8}";
        let attributes = prop::collection::vec((name, "[ -~äé]{0,12}"), 0..3);
        let leaf =
            (name, attributes.clone(), "[!-~äé][ -~äé\n]{0,20}").prop_map(|(name, attributes, text)| {
                Element {
                    name,
                    attributes,
                    children: vec![Node::Text(text)],
                }
            });
        leaf.prop_recursive(4, 24, 4, move |inner| {
            (name, attributes.clone(), prop::collection::vec(inner, 0..4)).prop_map(
                |(name, attributes, children)| Element {
                    name,
                    attributes,
                    children: children.into_iter().map(Node::Element).collect(),
                },
            )
        })
    }

    /// What each octet may cost does not grow with their number.
    #[test]
    fn hostile_documents_take_no_longer_than_others() {
        let many = |text: &str| text.repeat((1 << 20) / text.len());
        let started = std::time::Instant::now();
        for document in [
            format!("<a b='{}'/>", many("&")),
            format!("<a b='{}'/>", many("&x")),
            format!("<a>{}</a>", many("&")),
            format!("<a>{}</a>", many("&x ")),
            format!("<a>{}</a>", many("&amp;")),
            format!("<a {}/>", many("b ")),
            format!("<a {}/>", many("b='")),
            format!("<a>{}</a>", many("</b>")),
            format!("<a>{}</a>", many("<!-- ")),
            format!("<!DOCTYPE a [{}]><a/>", many("<!ENTITY b '&b;'>")),
            format!("<a>{}</a>", many("<![CDATA[")),
            format!("<a>{}</a>", many("]]>")),
        ] {
            let _ = parse(document.as_bytes());
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(20));
    }

    proptest! {
        #[test]
        fn round_trip(root in element()) {
            let mut text = String::new();
            root.write_to(&mut text);
            prop_assert_eq!(parse(text.as_bytes()), Ok(root));
        }

        #[test]
        fn never_panics(document in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&document);
        }

        #[test]
        fn never_panics_on_markup(document in "[<>/&;#x!\\[\\]a\"'= -]{0,80}") {
            let _ = parse(document.as_bytes());
        }
    }
}
