//! The request with which an agent hands over a new certificate (protocol.md 2.2).

use super::{NAMESPACES, TopologyError, document, element, root, squeezed, text_of};

/// What an agent sends to the certificate update endpoint. The connection is authenticated with
/// the old certificate; nothing else in the request says who sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateUpdateRequest {
    /// The new certificate's DER as base64; white space is taken out when parsed.
    pub certificate_base64: String,
}

impl CertificateUpdateRequest {
    /// The body to send.
    pub fn compose(&self) -> String {
        let mut xml = format!("<?xml version=\"1.0\"?>\n<CertificateUpdateRequest {NAMESPACES}>");
        element(&mut xml, "NewCertificate", &self.certificate_base64);
        xml.push_str("</CertificateUpdateRequest>");
        xml
    }

    /// Reads what an agent sent; the original separates the PEM lines by blanks.
    pub fn parse(body: &[u8]) -> Result<Self, TopologyError> {
        let text = text_of(body)?;
        let document = document(&text)?;
        let root = root(&document, "CertificateUpdateRequest")?;
        Ok(CertificateUpdateRequest {
            certificate_base64: squeezed(root, "NewCertificate")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::BODY_LIMIT;
    use super::*;

    #[test]
    fn a_request_is_written_as_the_original_does() {
        let request = CertificateUpdateRequest {
            certificate_base64: "MIID+/==".into(),
        };
        let xml = request.compose();
        assert_eq!(
            xml,
            "<?xml version=\"1.0\"?>\n<CertificateUpdateRequest \
             xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
             xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" \
             xmlns=\"http://schemas.microsoft.com/WorkloadMonitoring/HealthServiceProtocol/2014/09/\">\
             <NewCertificate>MIID+/==</NewCertificate></CertificateUpdateRequest>"
        );
        let parsed = CertificateUpdateRequest::parse(xml.as_bytes());
        assert_eq!(parsed, Ok(request));
    }

    #[test]
    fn white_space_goes() {
        let xml = "<CertificateUpdateRequest><NewCertificate>\n MIID +/\r\n\t== \n\
                   </NewCertificate></CertificateUpdateRequest>";
        let request = CertificateUpdateRequest::parse(xml.as_bytes()).unwrap();
        assert_eq!(request.certificate_base64, "MIID+/==");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let missing = Err(TopologyError::Missing("NewCertificate"));
        for (body, error) in [
            ("<CertificateUpdateRequest/>", missing.clone()),
            (
                "<CertificateUpdateRequest><NewCertificate> </NewCertificate></CertificateUpdateRequest>",
                missing.clone(),
            ),
            (
                "<CertificateUpdateRequest><Other>MIID</Other></CertificateUpdateRequest>",
                missing,
            ),
            (
                "<AgentTopologyRequest/>",
                Err(TopologyError::OtherRoot(
                    "AgentTopologyRequest".into(),
                    "CertificateUpdateRequest",
                )),
            ),
        ] {
            assert_eq!(CertificateUpdateRequest::parse(body.as_bytes()), error);
        }
        for body in [
            &b""[..],
            b"{}",
            b"\xff\xfe\x00",
            b"<CertificateUpdateRequest>",
        ] {
            let error = CertificateUpdateRequest::parse(body);
            assert!(matches!(error, Err(TopologyError::NotXml(_))), "{error:?}");
        }
        let doctype = b"<!DOCTYPE a [<!ENTITY b 'c'>]><CertificateUpdateRequest><NewCertificate>\
                        &b;</NewCertificate></CertificateUpdateRequest>";
        assert!(CertificateUpdateRequest::parse(doctype).is_err());
    }

    #[test]
    fn size_has_a_limit() {
        let filled = |length: usize| {
            let frame = CertificateUpdateRequest {
                certificate_base64: String::new(),
            };
            let request = CertificateUpdateRequest {
                certificate_base64: "A".repeat(length - frame.compose().len()),
            };
            CertificateUpdateRequest::parse(request.compose().as_bytes())
        };
        assert!(filled(BODY_LIMIT).is_ok());
        assert_eq!(filled(BODY_LIMIT + 1), Err(TopologyError::TooLarge));
    }
}
