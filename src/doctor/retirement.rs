//! Services that were announced to end, by the domain of an endpoint.

/// What a person should know of the service behind this host name.
pub fn notices(host: &str) -> Vec<String> {
    let host = host.to_ascii_lowercase();
    let mut notices = Vec::new();
    if host.contains(".opinsights.azure.") {
        notices.push(
            "the public cloud's service for this agent was retired on 31 August 2024 and takes \
             data without any promise: onboard to a hub of your own"
                .to_owned(),
        );
    }
    notices
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_public_clouds_are_retired() {
        assert_eq!(super::notices("ws.ods.opinsights.azure.com").len(), 1);
        assert_eq!(super::notices("WS.ods.opinsights.azure.us").len(), 1);
        assert!(super::notices("ws.ods.hub.test").is_empty());
    }
}
