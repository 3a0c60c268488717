"""Uploads a recording, submits a job, follows it and downloads what it made, with the client that openapi-python-client
has built from the API's own description. Usage: use_client.py URL KEY RECORDING"""

import hashlib
import sys
from io import BytesIO
from pathlib import Path

from fourmi_client import AuthenticatedClient
from fourmi_client.api.files import download_file, upload_file
from fourmi_client.api.jobs import follow_job, get_job, submit_job
from fourmi_client.models import AudioExtractSubmission
from fourmi_client.types import File


def main(url: str, key: str, recording: str) -> None:
    client = AuthenticatedClient(base_url=url, token=key, raise_on_unexpected_status=True)
    content = Path(recording).read_bytes()
    stored = upload_file.sync(client=client, body=File(payload=BytesIO(content)), name="recording.mp4")
    assert stored.bytes_ == len(content), stored

    wanted = {"kind": "audio.extract", "payload": {"source": {"upload": stored.id}, "format": "mp3"}}
    job = submit_job.sync(client=client, body=AudioExtractSubmission.from_dict(wanted))
    # The stream ends with the job.
    events = follow_job.sync(client=client, id=job.id)
    assert "event: snapshot" in events and '"state":"succeeded"' in events, events

    done = get_job.sync(client=client, id=job.id)
    audio = done.result["files"][0]
    got = download_file.sync(client=client, id=audio["file"])
    content = got.payload.read()
    assert hashlib.sha256(content).hexdigest() == audio["sha256"], "another file"
    print(f"{job.id}: {len(content)} bytes")


main(*sys.argv[1:])
