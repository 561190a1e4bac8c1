use super::*;
use bollard::models::ContainerState;

fn found(
    status: ContainerStateStatusEnum,
    finished: &str,
    expires: &str,
) -> ContainerInspectResponse {
    let labels = [(EXPIRES, expires), (BEGUN, "2027-01-15T07:00:00Z")];
    ContainerInspectResponse {
        config: Some(ContainerConfig {
            labels: Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
            ..ContainerConfig::default()
        }),
        state: Some(ContainerState {
            status: Some(status),
            finished_at: Some(finished.to_owned()),
            ..ContainerState::default()
        }),
        ..ContainerInspectResponse::default()
    }
}

#[test]
fn a_bake_is_left_alone_while_its_builder_may_live() {
    use ContainerStateStatusEnum::{CREATED, EXITED, RUNNING};
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let (past, future) = ("2027-01-15T07:59:59Z", "2027-01-15T08:10:00Z");
    let just = "2027-01-15T07:59:00.123Z";
    assert!(!is_abandoned(&found(RUNNING, "", future), now));
    assert!(is_abandoned(&found(RUNNING, "", past), now));
    assert!(
        !is_abandoned(&found(EXITED, just, future), now),
        "it is being committed"
    );
    assert!(is_abandoned(
        &found(EXITED, "2027-01-15T07:50:00Z", future),
        now
    ));
    assert!(
        is_abandoned(&found(CREATED, "", future), now),
        "made an hour ago"
    );
    assert!(is_abandoned(&found(EXITED, just, "soon"), now));
}

#[test]
fn a_container_that_cannot_be_looked_at_belongs_to_somebody() {
    let server = |status_code, message: &str| EngineFault::DockerResponseServerError {
        status_code,
        message: message.to_owned(),
    };
    assert_eq!(seen(&server(404, "no such container")), Some(false));
    assert_eq!(
        seen(&server(500, "no such container: it was removed")),
        Some(false)
    );
    assert_eq!(seen(&server(500, "layer not known")), Some(true));
    assert_eq!(seen(&EngineFault::RequestTimeoutError), None);
}

#[test]
fn a_name_for_an_image_is_one_that_engines_accept() {
    let name = |image: &str| container_name(&image.parse().unwrap());
    assert_eq!(name("h:5000/a/b:1"), "millrace-bake-h.5000.a.b.1");
}
