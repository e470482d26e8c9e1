"""The colours of the screen: one theme for the night, one for the day, and what Textual brings besides."""

from __future__ import annotations

from textual.theme import Theme

NIGHT = Theme(
    name="mailbe-night",
    primary="#7aa2f7",
    secondary="#bb9af7",
    accent="#ff9e64",
    warning="#e0af68",
    error="#f7768e",
    success="#9ece6a",
    foreground="#c8d0f0",
    background="#16161e",
    surface="#1a1b26",
    panel="#24283b",
    variables={
        "block-cursor-background": "#33426e",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#24283b",
        "block-cursor-blurred-foreground": "#c8d0f0",
        "border": "#7aa2f7",
        "border-blurred": "#3b4261",
        "footer-background": "#1a1b26",
        "footer-key-foreground": "#ff9e64",
        "input-selection-background": "#7aa2f7 35%",
        "scrollbar": "#3b4261",
        "scrollbar-background": "#16161e",
        "scrollbar-corner-color": "#16161e",
    },
)
DAY = Theme(
    name="mailbe-day",
    primary="#2e5aac",
    secondary="#7847bd",
    accent="#b15c00",
    warning="#8f5e15",
    error="#b3243c",
    success="#3f6f14",
    foreground="#2b2f45",
    background="#f2f1ec",
    surface="#fbfaf6",
    panel="#e3e2da",
    dark=False,
    variables={
        "block-cursor-background": "#c9d8f5",
        "block-cursor-foreground": "#1a1d2e",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#e3e2da",
        "block-cursor-blurred-foreground": "#2b2f45",
        "border-blurred": "#b9b8ae",
        "footer-background": "#e3e2da",
        "footer-key-foreground": "#b15c00",
    },
)
