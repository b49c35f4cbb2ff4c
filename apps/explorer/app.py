"""The server that launch.py starts: Streamlit on main.py, with the page of `explorer.frontend`."""

import streamlit as st
from explorer.frontend import Frontend
from starlette.middleware import Middleware

PAGES = ("", "layers", "tokens", "memory", "ablate", "compare", "report")

app = st.App("main.py", middleware=[Middleware(Frontend, pages=PAGES)])
