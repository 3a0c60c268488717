"""A worker of the kind x.shout, with nothing but Python's standard library: FOURMI_URL and FOURMI_API_KEY say where."""
import json, os, threading, urllib.request

URL, NAME, LEASE_MS = os.environ["FOURMI_URL"], f"shout-{os.getpid()}", int(os.environ.get("LEASE_MS", "15000"))
TEXT = {"text": {"type": "string", "minLength": 1}, "pause_s": {"type": "number", "minimum": 0}}
SCHEMA = {"type": "object", "required": ["text"], "additionalProperties": False, "properties": TEXT}

def call(method, path, body):
    headers = {"Authorization": "Bearer " + os.environ["FOURMI_API_KEY"], "Content-Type": "application/json"}
    request = urllib.request.Request(f"{URL}/api/v1{path}", json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)

def renew(run, stop):
    while not stop.wait(LEASE_MS / 3000):
        answer = call("POST", "/work/renew", {"worker": NAME, "lease_ms": LEASE_MS, "runs": [run]})["results"][0]
        if answer["status"] != 200 or answer.get("cancel_requested"):
            stop.set()  # The run is lost, or a caller asked to stop it.

def shout(run, payload, stop):
    words = payload["text"].split()
    for n, word in enumerate(words):
        call("POST", "/work/progress", {"progress": [{**run, "stage": "shout", "percent": 100 * n / len(words)}]})
        call("POST", "/work/log", {"log": [{**run, "lines": [{"text": word}]}]})
        if stop.wait(payload.get("pause_s", 0)):
            return {"outcome": "cancelled"}
    return {"outcome": "succeeded", "result": {"text": payload["text"].upper()}}

call("PUT", "/kinds/x.shout", {"summary": "Shouts a text.", "payload_schema": SCHEMA, "policy": {"attempts": 3}})
drain = False
while not drain:
    leased = call("POST", "/work/lease", {"worker": NAME, "kinds": {"x.shout": 1}, "wait_s": 20, "lease_ms": LEASE_MS})
    drain = leased["drain"]
    for job in leased["jobs"]:
        run, stop = {"id": job["id"], "run": job["run"]}, threading.Event()
        threading.Thread(target=renew, args=(run, stop), daemon=True).start()
        try:
            end = shout(run, job["payload"], stop)
        except Exception as error:
            end = {"outcome": "failed", "code": "shout_failed", "message": str(error)}
        stop.set()
        call("POST", "/work/settle", {"outcomes": [{**run, **end}]})
