# The page of the guide "Phoenix" as a single file: pictures in, labels out, in a LiveView.
#
#     elixir examples/label_live.exs
#
# and open http://127.0.0.1:4000. The embedded model needs no network, but knows only emoji: try the
# pictures in priv/samples. `PORT=8080` takes another port.

Mix.install([
  {:image_zero_shot, path: Path.expand("..", __DIR__)},
  {:phoenix, "~> 1.8"},
  {:phoenix_live_view, "~> 1.0"},
  {:jason, "~> 1.4"},
  {:bandit, "~> 1.5"}
])

Application.put_all_env(
  image_zero_shot: [serving: MyApp.Clip, repo: :embedded],
  phoenix: [json_library: Jason],
  my_app: [
    {MyAppWeb.Endpoint,
     adapter: Bandit.PhoenixAdapter,
     http: [ip: {127, 0, 0, 1}, port: String.to_integer(System.get_env("PORT", "4000"))],
     check_origin: ["//127.0.0.1", "//localhost"],
     server: true,
     pubsub_server: MyApp.PubSub,
     secret_key_base: Base.encode64(:crypto.strong_rand_bytes(48)),
     live_view: [signing_salt: "label_live"]}
  ]
)

defmodule MyAppWeb do
  def live_view, do: quote(do: use(Phoenix.LiveView))

  defmacro __using__(which), do: apply(__MODULE__, which, [])
end

defmodule MyAppWeb.Layouts do
  use Phoenix.Component

  def page(assigns) do
    ~H"""
    <!DOCTYPE html>
    <html lang="en">
      <head>
        <meta name="csrf-token" content={Plug.CSRFProtection.get_csrf_token()} />
        <link rel="icon" href="data:," />
        <title>What is it?</title>
        <script src="/phoenix/phoenix.min.js"></script>
        <script src="/phoenix_live_view/phoenix_live_view.min.js"></script>
        <script>
          const token = document.querySelector("meta[name='csrf-token']").content
          new LiveView.LiveSocket("/live", Phoenix.Socket, {params: {_csrf_token: token}}).connect()
        </script>
      </head>
      <body>{@inner_content}</body>
    </html>
    """
  end
end

# The next two modules are those of the guide.
defmodule MyAppWeb.ClipError do
  use Phoenix.Component

  require Logger

  attr :error, :any, required: true

  def clip_error(assigns) do
    ~H"""
    <p role="alert">{message(@error)}</p>
    """
  end

  def message(%{reason: :invalid_image}), do: "This file is not a picture, or it is damaged."
  def message(%{reason: :unsupported_image}), do: "Please choose a JPEG, PNG or WebP picture."
  def message(%{reason: :image_too_large}), do: "This picture is too large."
  def message(%{reason: :overloaded}), do: "We are very busy. Please try again in a moment."
  def message(%{reason: :timeout}), do: "This took too long. Please try again in a moment."

  def message(%{reason: reason}) when reason in [:serving_down, :node_down],
    do: "This is out of order right now. Please try again in a minute."

  # What an upload can lack before there is a call.
  def message(:too_large), do: message(%{reason: :image_too_large})
  def message(:not_accepted), do: message(%{reason: :unsupported_image})
  def message(:too_many_files), do: "These are too many pictures at once. Please remove some."
  def message(:no_photo), do: "Please choose a picture. Empty files do not count."

  def message(_error), do: "Something went wrong on our side."

  # Faults of users, and what the metrics count.
  @expected [:invalid_image, :unsupported_image, :image_too_large, :overloaded]

  def log(%Image.ZeroShot.Error{reason: reason} = error) do
    level = if reason in @expected, do: :info, else: :error
    Logger.log(level, "#{reason}: #{Exception.message(error)}")
  end

  # LiveView logs the crash of a task itself.
  def log(_exit), do: :ok
end

defmodule MyAppWeb.LabelLive do
  use MyAppWeb, :live_view

  import MyAppWeb.ClipError

  @labels ["a cat", "a dog", "a pizza"]

  @impl true
  def mount(_params, _session, socket) do
    {:ok,
     socket
     |> assign(photos: [], error: nil)
     |> allow_upload(:photo,
       accept: ~w(.jpg .jpeg .png .webp),
       max_entries: 3,
       max_file_size: 8_000_000
     )}
  end

  @impl true
  def render(assigns) do
    ~H"""
    <form id="photo-form" phx-change="choose" phx-submit="classify">
      <label for={@uploads.photo.ref}>Up to {@uploads.photo.max_entries} pictures</label>
      <.live_file_input upload={@uploads.photo} />
      <button disabled={@uploads.photo.errors != []}>What is it?</button>
    </form>
    <.clip_error :for={fault <- upload_errors(@uploads.photo)} error={fault} />
    <.clip_error :if={@error} error={@error} />
    <div :for={entry <- @uploads.photo.entries}>
      <.live_img_preview entry={entry} alt="" width="160" />
      {entry.client_name} <progress max="100" value={entry.progress}></progress>
      <button phx-click="remove" phx-value-ref={entry.ref}>Remove</button>
      <.clip_error :for={fault <- upload_errors(@uploads.photo, entry)} error={fault} />
    </div>
    <section :for={photo <- @photos}>
      <h2>{photo.name}</h2>
      <p :if={photo.busy}>
        Looking … <button phx-click="cancel" phx-value-ref={photo.ref}>Cancel</button>
      </p>
      <.clip_error :if={photo.error} error={photo.error} />
      <ol>
        <li :for={result <- photo.results}>{result.label}: {round(result.score * 100)} %</li>
      </ol>
    </section>
    """
  end

  @impl true
  def handle_event("choose", _params, socket) do
    # LiveView's client leaves empty files out.
    error = if socket.assigns.uploads.photo.entries == [], do: :no_photo
    {:noreply, socket |> forget(socket.assigns.photos) |> assign(error: error)}
  end

  def handle_event("remove", %{"ref" => ref}, socket),
    do: {:noreply, cancel_upload(socket, :photo, ref)}

  def handle_event("cancel", %{"ref" => ref}, socket),
    do: {:noreply, forget(socket, Enum.filter(socket.assigns.photos, &(&1.ref == ref)))}

  def handle_event("classify", _params, socket) do
    # The file is deleted when this returns, so the task gets its bytes.
    read = fn %{path: path}, entry -> {:ok, {entry, File.read!(path)}} end
    uploads = consume_uploaded_entries(socket, :photo, read)
    socket = forget(socket, socket.assigns.photos)

    if uploads == [],
      do: {:noreply, assign(socket, error: :no_photo)},
      else: {:noreply, Enum.reduce(uploads, socket, &classify/2)}
  end

  @impl true
  def handle_async(ref, {:ok, {:ok, results}}, socket),
    do: {:noreply, update_photo(socket, ref, %{busy: false, results: results})}

  def handle_async(ref, {:ok, {:error, error}}, socket), do: {:noreply, fail(socket, ref, error)}
  def handle_async(ref, {:exit, reason}, socket), do: {:noreply, fail(socket, ref, reason)}

  defp fail(socket, ref, error) do
    log(error)
    update_photo(socket, ref, %{busy: false, error: error})
  end

  defp classify({entry, photo}, socket) do
    row = %{ref: entry.ref, name: entry.client_name, busy: true, results: [], error: nil}

    socket
    |> assign(photos: [row | socket.assigns.photos])
    |> start_async(entry.ref, fn -> Image.ZeroShot.try_classify(photo, @labels) end)
  end

  defp update_photo(socket, ref, changes) do
    photos =
      for photo <- socket.assigns.photos,
          do: if(photo.ref == ref, do: Map.merge(photo, changes), else: photo)

    assign(socket, photos: photos)
  end

  # Takes photos off the page, and their calls out of the queue.
  defp forget(socket, photos) do
    socket = Enum.reduce(photos, socket, &cancel_async(&2, &1.ref))
    assign(socket, photos: socket.assigns.photos -- photos, error: nil)
  end
end

defmodule MyAppWeb.Router do
  use Phoenix.Router

  import Phoenix.LiveView.Router

  pipeline :browser do
    plug :fetch_session
    plug :put_root_layout, html: {MyAppWeb.Layouts, :page}
    plug :protect_from_forgery
    plug :put_secure_browser_headers
  end

  scope "/" do
    pipe_through :browser
    live "/", MyAppWeb.LabelLive
  end
end

defmodule MyAppWeb.Endpoint do
  use Phoenix.Endpoint, otp_app: :my_app

  @session [store: :cookie, key: "_label_live", signing_salt: "label_live"]

  socket "/live", Phoenix.LiveView.Socket, websocket: [connect_info: [session: @session]]
  plug Plug.Static, at: "/phoenix", from: {:phoenix, "priv/static"}
  plug Plug.Static, at: "/phoenix_live_view", from: {:phoenix_live_view, "priv/static"}
  plug Plug.Session, @session
  plug MyAppWeb.Router
end

{:ok, _supervisor} =
  Supervisor.start_link(
    [
      {Phoenix.PubSub, name: MyApp.PubSub},
      {Image.ZeroShot.Serving, name: MyApp.Clip, max_queue: 30},
      MyAppWeb.Endpoint
    ],
    strategy: :one_for_one
  )

Process.sleep(:infinity)
