use super::*;

const GUID: &str = "0b6c1f3e-1111-4222-8333-444455556666";

fn request() -> TopologyRequest {
    TopologyRequest {
        fqdn: "web01.example.org".into(),
        entity_id: GUID.parse().unwrap(),
        certificate_base64: "MIID+/==".into(),
        os: Some(OperatingSystem {
            name: "Ubuntu".into(),
            manufacturer: "Canonical & <Co>".into(),
            version: "22.04".into(),
            telemetry: Telemetry {
                percent_user_time: Some(1),
                used_memory: Some(104_512),
                ..Telemetry::default()
            },
            ..OperatingSystem::default()
        }),
    }
}

#[test]
fn a_request_is_written_in_the_originals_order() {
    let xml = request().to_xml();
    assert_eq!(
        xml,
        "<?xml version=\"1.0\"?>\n<AgentTopologyRequest \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" \
         xmlns=\"http://schemas.microsoft.com/WorkloadMonitoring/HealthServiceProtocol/2014/09/\">\
         <FullyQualfiedDomainName>web01.example.org</FullyQualfiedDomainName>\
         <EntityTypeId>0b6c1f3e-1111-4222-8333-444455556666</EntityTypeId>\
         <AuthenticationCertificate>MIID+/==</AuthenticationCertificate>\
         <OperatingSystem><InContainer>False</InContainer>\
         <Telemetry PercentUserTime=\"1\" UsedMemory=\"104512\"></Telemetry>\
         <ProcessorArchitecture>x64</ProcessorArchitecture><Name>Ubuntu</Name>\
         <Version>22.04</Version><Manufacturer>Canonical &amp; &lt;Co&gt;</Manufacturer>\
         </OperatingSystem></AgentTopologyRequest>"
    );
    assert_eq!(TopologyRequest::parse(xml.as_bytes()).unwrap(), request());
}

#[test]
fn everything_in_a_container_comes_back() {
    let mut request = request();
    if let Some(os) = &mut request.os {
        os.in_container = true;
        os.in_container_version = Some("3.1".into());
        os.is_aks_environment = Some(true);
        os.k8s_version = Some("v1.29".into());
    }
    let xml = request.to_xml();
    assert_eq!(TopologyRequest::parse(xml.as_bytes()).unwrap(), request);
    request.os = None;
    let xml = request.to_xml();
    assert!(!xml.contains("OperatingSystem"));
    assert_eq!(TopologyRequest::parse(xml.as_bytes()).unwrap(), request);
}

#[test]
fn line_ends_of_the_original_are_stripped() {
    let xml = request()
        .to_xml()
        .replace("web01.example.org", "web01\n.example.org\n")
        .replace("MIID+/==", "\nMIID\n+/==\n");
    assert_eq!(TopologyRequest::parse(xml.as_bytes()).unwrap(), request());
}

#[test]
fn incomplete_requests_say_what_is_missing() {
    let xml = request().to_xml();
    let without = |name: &str| {
        let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
        let from = xml.find(&begin).unwrap();
        let to = xml.find(&end).unwrap() + end.len();
        let cut = format!("{}{}", &xml[..from], &xml[to..]);
        TopologyRequest::parse(cut.as_bytes()).unwrap_err()
    };
    for name in [
        "FullyQualfiedDomainName",
        "EntityTypeId",
        "AuthenticationCertificate",
    ] {
        assert_eq!(without(name), TopologyError::Missing(name));
    }
    for name in ["Name", "Manufacturer", "Version"] {
        assert_eq!(
            without(name),
            TopologyError::IncompleteOperatingSystem(name)
        );
    }
}

#[test]
fn hostile_documents_are_refused() {
    let refused = |text: &str| TopologyRequest::parse(text.as_bytes()).unwrap_err();
    assert!(matches!(refused(""), TopologyError::NotXml(_)));
    assert!(matches!(refused("not xml"), TopologyError::NotXml(_)));
    assert!(matches!(refused("<a/>"), TopologyError::OtherRoot(..)));
    let bomb = "<!DOCTYPE a [<!ENTITY x \"y\">]><AgentTopologyRequest>&x;</AgentTopologyRequest>";
    assert!(matches!(refused(bomb), TopologyError::NotXml(_)));
    let deep = "<a>".repeat(20_000);
    assert!(matches!(refused(&deep), TopologyError::NotXml(_)));
    let wide = format!(
        "<AgentTopologyRequest>{}</AgentTopologyRequest>",
        "<a/>".repeat(2000)
    );
    assert!(matches!(refused(&wide), TopologyError::NotXml(_)));
    let bad_guid = request().to_xml().replace(GUID, "x");
    assert!(matches!(
        refused(&bad_guid),
        TopologyError::Invalid("EntityTypeId", _)
    ));
}

#[test]
fn limits_hold_at_the_edge() {
    let mut request = request();
    request.fqdn = "h".repeat(TEXT_LIMIT);
    assert!(TopologyRequest::parse(request.to_xml().as_bytes()).is_ok());
    request.fqdn.push('h');
    assert!(TopologyRequest::parse(request.to_xml().as_bytes()).is_err());
    request.fqdn.pop();
    let room = BODY_LIMIT - request.to_xml().len();
    request.certificate_base64.push_str(&"A".repeat(room));
    assert!(TopologyRequest::parse(request.to_xml().as_bytes()).is_ok());
    request.certificate_base64.push('A');
    let refused = TopologyRequest::parse(request.to_xml().as_bytes());
    assert_eq!(refused.unwrap_err(), TopologyError::TooLarge);
}

fn response() -> TopologyResponse {
    TopologyResponse {
        query_interval: Some(Duration::from_secs(3600)),
        telemetry_interval: Some(Duration::from_secs(600)),
        id: GUID.into(),
        certificate_update_endpoint: Some("https://w.oms.example/C.Svc/RenewCertificate".into()),
        update_certificate: true,
        dsc_endpoint: Some("https://w/Accounts/w/Nodes(AgentId='g')".into()),
    }
}

#[test]
fn an_answer_is_one_line_that_patterns_can_read() {
    let xml = response().to_xml();
    assert!(!xml.contains('\n'));
    assert!(xml.contains(r#" queryInterval="PT1H" telemetryReportInterval="PT10M" id=""#));
    assert!(xml.contains(
        "<CertificateUpdateEndpoint updateCertificate=\"true\">\
         https://w.oms.example/C.Svc/RenewCertificate</CertificateUpdateEndpoint>"
    ));
    assert!(xml.contains("<DscConfiguration><Endpoint>https://w/Accounts/w/Nodes(AgentId='g')</"));
    assert_eq!(TopologyResponse::parse(xml.as_bytes()).unwrap(), response());
    let bare = TopologyResponse::default();
    assert_eq!(
        TopologyResponse::parse(bare.to_xml().as_bytes()).unwrap(),
        bare
    );
}

#[test]
fn any_layout_of_an_answer_is_read() {
    let xml = response()
        .to_xml()
        .replace('"', "'")
        .replace("AgentId='g'", "AgentId=&apos;g&apos;")
        .replace("><", ">\n  <")
        .replace("https://w.oms", "\n  <!-- here -->https://w.oms");
    assert_eq!(TopologyResponse::parse(xml.as_bytes()).unwrap(), response());
    assert!(TopologyResponse::parse(b"<html>proxy login</html>").is_err());
}

#[test]
fn durations() {
    for (text, seconds) in [("PT1H", 3600), ("PT20M", 1200), ("PT90S", 90), ("PT0S", 0)] {
        assert_eq!(parse_iso8601(text), Some(Duration::from_secs(seconds)));
        assert_eq!(iso8601(Duration::from_secs(seconds)), text);
    }
    assert_eq!(parse_iso8601("P1D"), Some(Duration::from_secs(86_400)));
    assert_eq!(parse_iso8601("P1DT2H3M4S").unwrap().as_secs(), 93_784);
    for bad in ["", "1H", "P1Y", "P1M", "-PT5M", "PT99999999999999999999H"] {
        assert_eq!(parse_iso8601(bad), None, "{bad}");
    }
}

#[test]
fn reasons_go_there_and_back() {
    for text in ["ClockSkew", "a < b & \"c\"", "&lt;"] {
        assert_eq!(reason(error_body(text).as_bytes()).as_deref(), Some(text));
    }
    assert_eq!(reason(b"<Error><Reason> \n</Reason></Error>"), None);
    assert_eq!(reason(b"Forbidden"), None);
    assert_eq!(reason(b""), None);
    let nasty = b"<Reason>\x1b[31mred\x07</Reason>";
    assert_eq!(reason(nasty).as_deref(), Some("[31mred"));
    let long = error_body(&"x".repeat(1000));
    assert_eq!(reason(long.as_bytes()).unwrap().len(), 200);
}
