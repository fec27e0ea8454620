# Stand-ins for what the guide "Phoenix" uses of Phoenix, LiveView, Plug and Telemetry.Metrics, only
# where those are not there: enough to compile its modules without a warning and to run them.

unless Code.ensure_loaded?(Phoenix.Component) do
  defmodule Image.ZeroShot.Test.HEEx do
    @moduledoc false

    # Templates as functions of their assigns, for the part of HEEx that the guide uses: tags,
    # `{}` in attributes and in content, `:for`, `:if` and local components without content.

    @token ~r/<\/[\w.]+>|<[\w.]+(?:\{[^{}]*\}|[^<>{}])*>|\{[^{}]*\}|[^<{]+/
    @attribute ~r/([:\w-]+)(?:=\{([^{}]*)\}|="([^"]*)")?/

    @spec compile!(String.t()) :: Macro.t()
    def compile!(template) do
      tokens = @token |> Regex.scan(template) |> List.flatten()
      if Enum.join(tokens) != template, do: raise("not read to its end: #{template}")
      {quoted, []} = children(tokens, [])
      quoted
    end

    defp children(["</" <> _ = close | rest], done), do: {Enum.reverse(done), [close | rest]}
    defp children([], done), do: {Enum.reverse(done), []}

    defp children(["<" <> _ = open | rest], done) do
      [_, name, attributes] = Regex.run(~r/^<([\w.]+)\s*(.*?)\/?>$/s, open)
      attributes = attributes(attributes)

      {quoted, rest} =
        if String.ends_with?(open, "/>") or name in ~w(input br),
          do: {element(name, attributes, []), rest},
          else: closed(name, attributes, children(rest, []))

      children(rest, [directives(quoted, attributes) | done])
    end

    defp children(["{" <> _ = braces | rest], done),
      do: children(rest, [shown(expression(String.slice(braces, 1..-2//1))) | done])

    defp children([text | rest], done), do: children(rest, [text | done])

    defp closed(name, attributes, {content, [close | rest]}) do
      if close != "</#{name}>", do: raise("<#{name}> is closed by #{close}")
      {element(name, attributes, content), rest}
    end

    defp attributes(text) do
      for [_, name | value] <- Regex.scan(@attribute, text) do
        case value do
          [] -> {name, true}
          [code] -> {name, expression(code)}
          ["", literal] -> {name, literal}
        end
      end
    end

    defp element("." <> component, attributes, []) do
      fields = for {name, value} <- plain(attributes), do: {String.to_atom(name), value}
      {String.to_atom(component), [], [{:%{}, [], fields}]}
    end

    defp element(name, attributes, content) do
      shown = for {name, value} <- plain(attributes), do: attribute(name, value)
      ["<#{name}", shown, ">", content, "</#{name}>"]
    end

    defp attribute(name, true), do: " " <> name
    defp attribute(name, value) when is_binary(value), do: [" ", name, "=\"", value, "\""]

    defp attribute(name, value) do
      quote do
        case unquote(value) do
          no when no in [nil, false] -> ""
          true -> unquote(" #{name}")
          value -> [unquote(" #{name}=\""), to_string(value), "\""]
        end
      end
    end

    defp plain(attributes), do: Enum.reject(attributes, fn {name, _} -> name =~ ":" end)

    defp directives(quoted, attributes) do
      attributes = Map.new(attributes)

      quoted =
        case attributes[":if"] do
          nil -> quoted
          condition -> quote(do: if(unquote(condition), do: unquote(quoted), else: ""))
        end

      case attributes[":for"] do
        nil -> quoted
        generator -> quote(do: for(unquote(generator), do: unquote(quoted)))
      end
    end

    defp shown(quoted), do: quote(do: to_string(unquote(quoted)))

    # `@name` is an assign, and one that is missing an error.
    defp expression(code) do
      code
      |> Code.string_to_quoted!()
      |> Macro.prewalk(fn
        {:@, _, [{name, _, nil}]} -> quote(do: Map.fetch!(var!(assigns), unquote(name)))
        other -> other
      end)
    end
  end

  defmodule Phoenix.Component do
    @moduledoc false

    defmacro __using__(_opts), do: quote(do: import(Phoenix.Component))

    defmacro attr(name, type, opts \\ [])
             when is_atom(name) and is_atom(type) and is_list(opts),
             do: nil

    defmacro sigil_H({:<<>>, _, [template]}, []), do: Image.ZeroShot.Test.HEEx.compile!(template)

    def assign(socket, assigns),
      do: %{socket | assigns: Map.merge(socket.assigns, Map.new(assigns))}

    def live_file_input(%{upload: upload}), do: ~s(<input type="file" name="#{upload.name}">)

    def upload_errors(upload, entry),
      do: for({ref, fault} <- upload.errors, ref == entry, do: fault)
  end

  defmodule Phoenix.LiveView do
    @moduledoc false

    # Uploads are a list of paths, and tasks are run when the test asks for it.

    alias Phoenix.LiveView.Socket

    @callback mount(map(), map(), struct()) :: {:ok, struct()}
    @callback render(map()) :: iodata()
    @callback handle_event(String.t(), map(), struct()) :: {:noreply, struct()}
    @callback handle_async(atom(), {:ok, term()} | {:exit, term()}, struct()) ::
                {:noreply, struct()}
    @optional_callbacks handle_event: 3, handle_async: 3

    defmodule Socket do
      @moduledoc false
      defstruct assigns: %{}, private: %{}
    end

    def allow_upload(%Socket{} = socket, name, opts) do
      true = Enum.all?(opts[:accept], &String.starts_with?(&1, "."))
      upload = %{name: name, entries: [], errors: [], max_file_size: opts[:max_file_size]}
      Phoenix.Component.assign(socket, uploads: %{name => upload})
    end

    # The file is gone after the function, as with the real one.
    def consume_uploaded_entries(%Socket{} = socket, name, function) do
      for path <- socket.assigns.uploads[name].entries do
        uuid = Integer.to_string(System.unique_integer([:positive]))
        entry = %{client_name: Path.basename(path), uuid: uuid}
        {:ok, value} = function.(%{path: path}, entry)
        File.rm!(path)
        value
      end
    end

    def start_async(%Socket{} = socket, name, function) when is_function(function, 0),
      do: %{socket | private: Map.put(socket.private, name, function)}

    def cancel_async(%Socket{} = socket, name),
      do: %{socket | private: Map.delete(socket.private, name)}
  end
end

unless Code.ensure_loaded?(Plug) do
  defmodule Plug do
    @moduledoc false
    @callback init(term()) :: term()
    @callback call(struct(), term()) :: struct()
  end

  defmodule Plug.Upload do
    @moduledoc false
    @enforce_keys [:path, :filename]
    defstruct [:path, :filename, :content_type]
  end

  defmodule Plug.Conn do
    @moduledoc false
    defstruct path_info: [], status: nil, resp_body: nil, resp_headers: [], halted: false

    def put_status(conn, status), do: %{conn | status: status}
    def send_resp(conn, status, body), do: %{conn | status: status, resp_body: body}
    def halt(conn), do: %{conn | halted: true}

    def put_resp_header(conn, name, value) do
      # As the real one in tests.
      if name != String.downcase(name), do: raise("header #{name} is not in lower case")
      %{conn | resp_headers: [{name, value} | conn.resp_headers]}
    end
  end

  defmodule Phoenix.Controller do
    @moduledoc false
    def json(conn, body), do: %{conn | status: conn.status || 200, resp_body: strings(body)}

    # What JSON makes of terms.
    defp strings(%{} = map) when not is_struct(map),
      do: Map.new(map, fn {key, value} -> {to_string(key), strings(value)} end)

    defp strings(list) when is_list(list), do: Enum.map(list, &strings/1)
    defp strings(number) when is_number(number), do: number
    defp strings(text) when is_binary(text) or is_atom(text), do: to_string(text)
  end
end

unless Code.ensure_loaded?(Telemetry.Metrics) do
  defmodule Telemetry.Metrics do
    @moduledoc false

    for kind <- [:summary, :counter, :last_value] do
      def unquote(kind)(name, opts \\ []) do
        {event, [measurement]} =
          name |> String.split(".") |> Enum.map(&String.to_atom/1) |> Enum.split(-1)

        %{event_name: event, measurement: measurement, tags: Keyword.get(opts, :tags, [])}
      end
    end
  end
end

# What `mix phx.new my_app` generates.
defmodule MyAppWeb do
  @moduledoc false

  def live_view do
    quote do
      @behaviour Phoenix.LiveView
      import Phoenix.LiveView
      import Phoenix.Component
    end
  end

  def controller do
    quote do
      import Plug.Conn
      import Phoenix.Controller
    end
  end

  defmacro __using__(which), do: apply(__MODULE__, which, [])
end

defmodule MyAppWeb.ConnCase do
  @moduledoc false

  # Its tests are run by the test of the guide, not by ExUnit.
  defmacro __using__(_opts) do
    quote do
      use ExUnit.Case, register: false
      import MyAppWeb.ConnCase
    end
  end

  # By name: the controller is compiled later.
  def post(conn, "/api/labels", params) do
    params = Map.new(params, fn {name, value} -> {to_string(name), value} end)
    apply(MyAppWeb.LabelController, :create, [conn, params])
  end

  def json_response(%{status: status} = conn, status), do: conn.resp_body
end

# Children of the application; the Endpoint tells the test what it finds when it starts.
for child <- [MyAppWeb.Telemetry, Phoenix.PubSub, MyAppWeb.Endpoint] do
  unless Code.ensure_loaded?(child) do
    defmodule child do
      @moduledoc false
      use Agent

      def start_link(_opts) do
        Agent.start_link(fn -> Image.ZeroShot.info() end, name: __MODULE__)
      end
    end
  end
end
