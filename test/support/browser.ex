defmodule Image.ZeroShot.Test.Browser do
  @moduledoc false

  # Chromium without a window, driven over the pipe of its DevTools protocol: JSON with a zero byte behind each
  # message. The pipe is the port's standard input and output, so the browser ends when this process does, also if
  # the VM is killed.

  use GenServer

  import ExUnit.Assertions, only: [flunk: 1]
  import Image.ZeroShot.Test.Wait, only: [eventually: 1]

  alias Image.ZeroShot.CLI
  alias Image.ZeroShot.Test.JSON

  @names ~w(chromium chromium-browser google-chrome-stable google-chrome chrome)
  @patience 60_000

  # Pictures of a camera that is not there, and nothing that asks the network.
  @arguments ~w(--headless=new --remote-debugging-pipe --no-first-run --no-default-browser-check --disable-gpu) ++
               ~w(--disable-extensions --disable-dev-shm-usage --disable-background-networking) ++
               ~w(--disable-component-update --disable-sync --no-proxy-server --no-sandbox) ++
               ~w(--use-fake-device-for-media-stream --use-fake-ui-for-media-stream)

  # Headless Chromium runs scripts in whatever holds a pipe.
  @redirected ~s(exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1)

  @doc """
  The program, or `nil`.
  """
  def program,
    do: System.get_env("CHROMIUM") || Enum.find_value(@names, &System.find_executable/1)

  @doc """
  Starts a browser that keeps what it writes in `folder`, and opens an empty page.
  """
  def start_link(folder), do: GenServer.start_link(__MODULE__, folder)

  @doc """
  Sends a command to the page, and returns its result.
  """
  def command(browser, method, params \\ %{}) do
    case GenServer.call(browser, {:command, method, params}, @patience) do
      %{"result" => result} -> result
      %{"error" => error} -> flunk("#{method}: #{inspect(error)}")
    end
  end

  @doc """
  What the page said on its console, its uncaught errors, and what the browser refused it.
  """
  def said(browser), do: GenServer.call(browser, :said, @patience)

  @doc """
  The addresses of everything that the page asked for.
  """
  def requests(browser), do: GenServer.call(browser, :requests, @patience)

  def resize(browser, width, height, opts \\ []) do
    command(browser, "Emulation.setDeviceMetricsOverride", %{
      width: width,
      height: height,
      deviceScaleFactor: Keyword.get(opts, :scale, 1),
      mobile: Keyword.get(opts, :mobile, false)
    })

    scheme = Keyword.get(opts, :scheme, "light")
    features = [%{name: "prefers-color-scheme", value: scheme}]
    command(browser, "Emulation.setEmulatedMedia", %{features: features})
  end

  def open(browser, url), do: command(browser, "Page.navigate", %{url: url})

  @doc """
  The value of an expression, or of what it promises.
  """
  def evaluate(browser, expression) do
    params = %{expression: expression, awaitPromise: true, returnByValue: true}

    case command(browser, "Runtime.evaluate", params) do
      %{"exceptionDetails" => details} -> flunk("#{expression}: #{inspect(details)}")
      %{"result" => result} -> result["value"]
    end
  end

  @doc """
  Returns once an expression holds.
  """
  def wait(browser, expression), do: eventually(fn -> evaluate(browser, expression) == true end)

  @doc """
  Types text where the focus is, key by key.
  """
  def type(browser, text) do
    for character <- String.graphemes(text),
        do: command(browser, "Input.insertText", %{text: character})
  end

  def press(browser, key, code) do
    for type <- ~w(rawKeyDown char keyUp) do
      text = if key == "Enter" and type == "char", do: %{text: "\r"}, else: %{}
      params = Map.merge(%{type: type, key: key, code: key, windowsVirtualKeyCode: code}, text)
      if type != "char" or text != %{}, do: command(browser, "Input.dispatchKeyEvent", params)
    end
  end

  @doc """
  Hands files to an input, as its dialogue does.
  """
  def choose(browser, selector, files) do
    %{"root" => %{"nodeId" => root}} = command(browser, "DOM.getDocument")
    found = command(browser, "DOM.querySelector", %{nodeId: root, selector: selector})
    command(browser, "DOM.setFileInputFiles", %{nodeId: found["nodeId"], files: files})
  end

  def screenshot(browser, file, opts \\ []) do
    params = %{format: "png", captureBeyondViewport: Keyword.get(opts, :whole, false)}
    %{"data" => data} = command(browser, "Page.captureScreenshot", params)
    File.write!(file, Base.decode64!(data))
  end

  @impl true
  def init(folder) do
    arguments = ["-c", @redirected, program()] ++ @arguments ++ ["--user-data-dir=#{folder}"]
    options = [:binary, :exit_status, args: arguments ++ ["about:blank"]]
    port = Port.open({:spawn_executable, "/bin/sh"}, options)
    state = %{port: port, rest: "", next: 1, callers: %{}, session: nil, said: [], requests: []}
    {:ok, state, {:continue, :attach}}
  end

  # Before anybody's command: the answers are awaited here.
  @impl true
  def handle_continue(:attach, state) do
    {%{"targetId" => target}, state} = now(state, "Target.createTarget", %{url: "about:blank"})

    {%{"sessionId" => session}, state} =
      now(state, "Target.attachToTarget", %{targetId: target, flatten: true})

    state = %{state | session: session}

    state =
      for domain <- ~w(Page Runtime Log Network), reduce: state do
        state -> state |> now("#{domain}.enable", %{}) |> elem(1)
      end

    {:noreply, state}
  end

  defp now(state, method, params) do
    {id, state} = send_command(state, method, params)
    answered(state, id)
  end

  defp answered(%{port: port} = state, id) do
    receive do
      {^port, {:data, data}} ->
        {messages, state} = messages(state, data)

        case Enum.split_with(messages, &(&1["id"] == id)) do
          {[%{"result" => result}], others} -> {result, Enum.reduce(others, state, &take/2)}
          {[], others} -> others |> Enum.reduce(state, &take/2) |> answered(id)
        end

      {^port, {:exit_status, status}} ->
        exit("the browser ended with status #{status}")
    after
      @patience -> exit("the browser does not answer")
    end
  end

  defp send_command(state, method, params) do
    session = if state.session, do: %{sessionId: state.session}, else: %{}
    message = Map.merge(%{id: state.next, method: method, params: params}, session)
    true = Port.command(state.port, [CLI.JSON.encode(message), 0])
    {state.next, %{state | next: state.next + 1}}
  end

  @impl true
  def handle_call({:command, method, params}, from, state) do
    {id, state} = send_command(state, method, params)
    {:noreply, put_in(state.callers[id], from)}
  end

  def handle_call(:said, _from, state), do: {:reply, Enum.reverse(state.said), state}
  def handle_call(:requests, _from, state), do: {:reply, state.requests, state}

  @impl true
  def handle_info({port, {:data, data}}, %{port: port} = state) do
    {messages, state} = messages(state, data)
    {:noreply, Enum.reduce(messages, state, &take/2)}
  end

  def handle_info({port, {:exit_status, status}}, %{port: port} = state),
    do: {:stop, "the browser ended with status #{status}", state}

  defp messages(state, data) do
    {whole, [rest]} = (state.rest <> data) |> String.split(<<0>>) |> Enum.split(-1)
    {Enum.map(whole, &JSON.parse!/1), %{state | rest: rest}}
  end

  defp take(%{"id" => id} = answer, state) do
    {from, callers} = Map.pop(state.callers, id)
    if from, do: GenServer.reply(from, answer)
    %{state | callers: callers}
  end

  defp take(%{"method" => "Runtime.consoleAPICalled", "params" => %{"args" => words}}, state),
    do: say(state, Enum.map_join(words, " ", &inspect(&1["value"] || &1["description"])))

  defp take(%{"method" => "Runtime.exceptionThrown", "params" => params}, state),
    do: say(state, inspect(params["exceptionDetails"]))

  defp take(%{"method" => "Log.entryAdded", "params" => %{"entry" => entry}}, state),
    do: say(state, "#{entry["text"]} #{entry["url"]}")

  defp take(%{"method" => "Network.requestWillBeSent", "params" => params}, state),
    do: %{state | requests: [params["request"]["url"] | state.requests]}

  defp take(_event, state), do: state

  defp say(state, text), do: %{state | said: [text | state.said]}
end
