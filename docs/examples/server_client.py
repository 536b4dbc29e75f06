"""Talk to ``ternac serve`` as to any server with OpenAI's API; without a URL, start one first.

``python server_client.py [http://127.0.0.1:8000]``
"""

import json
import re
import subprocess
import sys
import urllib.request

SERVE = [sys.executable, "-m", "ternac.cli", "serve", "shakespeare-small", "--port", "0"]


def complete(url: str, **body: object) -> str:
    request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["choices"][0]["text"]


server = None if sys.argv[1:] else subprocess.Popen(SERVE, stdout=subprocess.PIPE, text=True)
url = sys.argv[1] if server is None else re.search(r"http://[\w.:]+", server.stdout.readline())[0]
try:
    settings = {"model": "shakespeare-small", "temperature": 0.8, "seed": 3, "max_tokens": 40}
    print(complete(url, prompt="ROMEO:", **settings))
finally:
    if server is not None:
        server.terminate()
        server.communicate()
