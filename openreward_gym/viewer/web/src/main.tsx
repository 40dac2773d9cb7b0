import { render } from "preact";
import { App } from "./app";
import { markEverywhere } from "./text/everywhere";
import "./style.css";
import "./text/text.css";
import "./reading/reading.css";
import "./lists/lists.css";
import "./charts/charts.css";
import "./comparing/comparing.css";
import "./searching/searching.css";
import "./narrow.css";

markEverywhere();
render(<App />, document.getElementById("app")!);
