# Stand-ins for what the guide "Phoenix" uses of Phoenix, LiveView, LiveDashboard and Plug, only where
# those are not there: enough to compile its modules without a warning and to run them.

unless Code.ensure_loaded?(Phoenix.Component) do
  defmodule Phoenix.Component do
    @moduledoc false

    defmacro __using__(_opts), do: quote(do: import(Phoenix.Component))

    defmacro attr(name, type, opts \\ [])
             when is_atom(name) and is_atom(type) and is_list(opts),
             do: nil

    defmacro sigil_H({:<<>>, _, [template]}, []), do: Image.ZeroShot.Test.HEEx.compile!(template)

    def assign(%{assigns: assigns} = socket, more),
      do: %{socket | assigns: assign(assigns, more)}

    def assign(assigns, more), do: Map.merge(assigns, Map.new(more))

    def live_file_input(%{upload: upload}), do: ~s(<input type="file" name="#{upload.name}">)
    def live_img_preview(%{entry: entry}), do: ~s(<img id="#{entry.ref}">)

    def upload_errors(upload),
      do: for({ref, fault} <- upload.errors, ref == upload.ref, do: fault)

    def upload_errors(upload, entry),
      do: for({ref, fault} <- upload.errors, ref == entry.ref, do: fault)
  end

  defmodule Phoenix.LiveView do
    @moduledoc false

    # Uploads are what the test puts there, and tasks are run when the test asks for it.

    alias Phoenix.LiveView.Socket

    @callback mount(map(), map(), struct()) :: {:ok, struct()}
    @callback render(map()) :: iodata()
    @callback handle_event(String.t(), map(), struct()) :: {:noreply, struct()}
    @callback handle_async(term(), {:ok, term()} | {:exit, term()}, struct()) ::
                {:noreply, struct()}
    @optional_callbacks handle_event: 3, handle_async: 3

    defmodule Socket do
      @moduledoc false
      defstruct assigns: %{}, private: %{}
    end

    def allow_upload(%Socket{} = socket, name, opts) do
      true = Enum.all?(opts[:accept], &String.starts_with?(&1, "."))
      true = is_integer(opts[:max_file_size])

      upload = %{
        name: name,
        ref: "phx-1",
        entries: [],
        errors: [],
        max_entries: opts[:max_entries]
      }

      Phoenix.Component.assign(socket, uploads: %{name => upload})
    end

    # The file is gone after the function, as with the real one.
    def consume_uploaded_entries(%Socket{} = socket, name, function) do
      for %{path: path} = entry <- socket.assigns.uploads[name].entries do
        {:ok, value} = function.(%{path: path}, entry)
        File.rm!(path)
        value
      end
    end

    # With its faults.
    def cancel_upload(%Socket{} = socket, name, ref) do
      %{entries: entries, errors: errors} = upload = socket.assigns.uploads[name]
      true = Enum.any?(entries, &(&1.ref == ref))

      upload = %{
        upload
        | entries: Enum.reject(entries, &(&1.ref == ref)),
          errors: List.keydelete(errors, ref, 0)
      }

      Phoenix.Component.assign(socket, uploads: %{name => upload})
    end

    def start_async(%Socket{} = socket, name, function) when is_function(function, 0),
      do: %{socket | private: Map.put(socket.private, name, function)}

    def cancel_async(%Socket{} = socket, name),
      do: %{socket | private: Map.delete(socket.private, name)}
  end
end

unless Code.ensure_loaded?(Phoenix.LiveDashboard.PageBuilder) do
  defmodule Phoenix.LiveDashboard.PageBuilder do
    @moduledoc false

    @callback menu_link(term(), map()) :: {:ok, String.t()}
    @callback render(map()) :: iodata()

    defmacro __using__(_opts) do
      quote do
        @behaviour Phoenix.LiveDashboard.PageBuilder
        use Phoenix.Component
        import Phoenix.LiveDashboard.PageBuilder
      end
    end

    def fields_card(%{title: title, fields: fields}),
      do: ["<h5>#{title}</h5>", for({name, value} <- fields, do: "<p>#{name}: #{value}</p>")]
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
    defstruct method: "GET",
              path_info: [],
              req_headers: [],
              status: nil,
              resp_body: nil,
              resp_headers: [],
              before_send: [],
              halted: false

    def put_status(conn, status), do: %{conn | status: status}
    def halt(conn), do: %{conn | halted: true}

    def get_req_header(conn, name), do: for({^name, value} <- conn.req_headers, do: value)

    def register_before_send(conn, function),
      do: %{conn | before_send: [function | conn.before_send]}

    def send_resp(conn, status, body) do
      conn = Enum.reduce(conn.before_send, conn, fn function, conn -> function.(conn) end)
      %{conn | status: status, resp_body: body}
    end

    def put_resp_header(conn, name, value) do
      # As the real one in tests.
      if name != String.downcase(name), do: raise("header #{name} is not in lower case")
      %{conn | resp_headers: [{name, value} | conn.resp_headers]}
    end
  end

  defmodule Phoenix.Controller do
    @moduledoc false
    def json(conn, body), do: Plug.Conn.send_resp(conn, conn.status || 200, strings(body))

    def status_message_from_template(template), do: template

    # What JSON makes of terms.
    defp strings(%{} = map) when not is_struct(map),
      do: Map.new(map, fn {key, value} -> {to_string(key), strings(value)} end)

    defp strings(list) when is_list(list), do: Enum.map(list, &strings/1)
    defp strings(number) when is_number(number), do: number
    defp strings(text) when is_binary(text) or is_atom(text), do: to_string(text)
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
for child <- [MyAppWeb.Telemetry, DNSCluster, Phoenix.PubSub, MyAppWeb.Endpoint] do
  unless Code.ensure_loaded?(child) do
    defmodule child do
      @moduledoc false
      use Agent

      def start_link(_opts) do
        Agent.start_link(fn -> Image.ZeroShot.info() end, name: __MODULE__)
      end

      def config_change(_changed, _removed), do: :ok
    end
  end
end
