//! What the agent tells the service of itself.

use crate::hub::{Hub, Member};
use crate::stage::eventually;

#[test]
fn the_hub_learns_how_the_agent_is() {
    let hub = Hub::start();
    let member = Member::new(&hub, 200);
    let stage = hub.stage(&member, "20m");
    stage.change(
        "omsagent.d/telemetry.conf",
        "query_interval 5m",
        "query_interval 1s",
    );
    stage.change(
        "omsagent.d/telemetry.conf",
        "poll_interval 15s",
        "poll_interval 0.2s",
    );
    hub.faults("[[fault]]\non = 'upload'\ntimes = 2\nstatus = 503\n");
    let agent = stage.start();
    hub.takes_a_line_from(&agent);
    let told = |sql: &str| hub.count(&format!("SELECT * FROM telemetry WHERE {sql}")) > 0;
    eventually("a report", || told("report ->> '$.OSType' = 'Linux'"));
    eventually("a report of what was sent", || {
        told(
            "report ->> '$.AgentQoS[0].Source' = 'HEALTH_ASSESSMENT_BLOB.LOGMANAGEMENT' OR report ->> '$.AgentQoS[0].Source' = 'LINUX_SYSLOGS_BLOB.LOGMANAGEMENT'",
        )
    });
    eventually("a report of what failed", || {
        told("report ->> '$.AgentError[0].Message' LIKE '%503%'")
    });
    assert!(told(
        "report ->> '$.AgentResourceUsage.OMSMaxMemory' > 1000"
    ));
    assert!(
        !stage.log().contains("telemetry could not be sent"),
        "{}",
        stage.log()
    );
    // A service that does not want it is one line in the log, and the rest goes on.
    hub.faults("[[fault]]\non = 'telemetry'\nstatus = 500\n");
    eventually("a warning", || {
        stage
            .log()
            .contains("telemetry could not be sent: the service answered 500")
    });
    hub.takes_a_line_from(&agent);
    assert!(agent.stop().0.success());
}
