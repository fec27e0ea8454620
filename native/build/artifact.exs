Code.require_file("libtorch.exs", __DIR__)

defmodule Image.ZeroShot.Build.Artifact do
  @moduledoc false
  # The native libraries built before, in one archive for each platform: made by
  # `mix image_zero_shot.artifact`, taken where IMAGE_ZERO_SHOT_PRECOMPILED names one.
  #
  # An archive is trusted by its checksum alone, which is in the repository and in the package. It is
  # checked before anything reads what is inside.

  alias Image.ZeroShot.Build.Libtorch

  # What rustler builds for unless it is told otherwise: OTP 22 and later load it.
  @nif_version "2.15"

  @variable "IMAGE_ZERO_SHOT_PRECOMPILED"
  @way_out "unset #{@variable} to build from source"

  # The libraries are some 16 MB.
  @max_bytes 256 * 1024 * 1024
  @max_redirects 5
  @connect_ms 20_000
  @download_ms 600_000

  def variable, do: @variable

  @doc """
  The name of the archive for this platform.
  """
  def name(version) do
    "image_zero_shot-#{version}-nif-#{@nif_version}-#{Libtorch.target!()}-" <>
      "libtorch-#{Libtorch.version()}.tar.gz"
  end

  @doc """
  Packs the libraries in `priv` into `folder`, and enters the archive in the file of checksums.
  """
  def pack!(crates, version, priv, folder, checksums) do
    File.mkdir_p!(folder)
    archive = Path.join(folder, name(version))
    {:ok, tar} = :erl_tar.open(String.to_charlist(archive), [:write, :compressed])

    for crate <- Enum.sort(crates) do
      content = File.read!(Path.join(priv, file(crate)))
      # The same archive of the same libraries, whenever it is packed.
      options = [atime: 0, mtime: 0, ctime: 0, uid: 0, gid: 0]
      :ok = :erl_tar.add(tar, content, String.to_charlist(file(crate)), options)
    end

    :ok = :erl_tar.close(tar)
    enter!(checksums, Path.basename(archive), sha256(File.read!(archive)))
    archive
  end

  defp enter!(checksums, name, sum) do
    {notes, sums} = read_checksums(checksums)
    lines = for {name, sum} <- Enum.sort(Map.put(sums, name, sum)), do: "#{sum}  #{name}"
    File.write!(checksums, Enum.map(notes ++ lines, &[&1, ?\n]))
  end

  # As `sha256sum` writes and checks them, with notes.
  defp read_checksums(path) do
    lines = path |> File.read!() |> String.split("\n", trim: true)
    {notes, sums} = Enum.split_with(lines, &String.starts_with?(&1, "#"))

    {notes,
     Map.new(sums, fn line -> line |> String.split() |> Enum.reverse() |> List.to_tuple() end)}
  end

  @doc """
  The libraries in the archive at a path or an address, by crate, once everything about it is checked.
  """
  def libraries!(place, crates, version, checksums) do
    name = name(version)
    check_name!(place, name)
    check_vm!()
    sum = expected!(checksums, name)

    place
    |> archive!(name, sum)
    |> check_sum!(name, sum, checksums)
    |> unpack!(crates)
  end

  defp check_name!(place, name) do
    given =
      if url?(place), do: Path.basename(URI.parse(place).path || ""), else: Path.basename(place)

    unless given == name do
      fail!(
        "expected the archive for this platform and version, #{name}, got: #{given}; name that " <>
          "one, or #{@way_out}"
      )
    end
  end

  defp check_vm! do
    [own, needed] =
      for version <- [List.to_string(:erlang.system_info(:nif_version)), @nif_version],
          do: version |> String.split(".") |> Enum.map(&String.to_integer/1)

    unless hd(own) == hd(needed) and own >= needed do
      fail!(
        "expected an Erlang with NIF version #{@nif_version} or later, this is " <>
          "OTP #{System.otp_release()}; #{@way_out}"
      )
    end
  end

  defp expected!(checksums, name) do
    {_notes, sums} = read_checksums(checksums)

    sums[name] ||
      fail!(
        "expected #{checksums} to have a checksum of #{name}, found none: no archive was " <>
          "released for it; #{@way_out}"
      )
  end

  defp check_sum!(archive, name, sum, checksums) do
    if sha256(archive) == sum,
      do: archive,
      else:
        fail!(
          "expected #{name} to have the SHA-256 in #{checksums}, #{sum}, got " <>
            "#{sha256(archive)}; download it again from where it was released, or #{@way_out}"
        )
  end

  # An archive from the network is kept, so that not every build asks for it.
  defp archive!(place, name, sum) do
    if url?(place) do
      kept = Path.join(Libtorch.cache_dir!(), name)

      with {:ok, archive} <- File.read(kept), ^sum <- sha256(archive) do
        archive
      else
        _missing_or_other -> place |> download!() |> keep(kept, sum)
      end
    else
      read!(Path.expand(place))
    end
  end

  defp keep(archive, kept, sum) do
    if sha256(archive) == sum do
      new = "#{kept}.new#{System.pid()}"
      File.mkdir_p!(Path.dirname(kept))
      File.write!(new, archive)
      File.rename!(new, kept)
    end

    archive
  end

  defp read!(path) do
    with {:ok, %{type: :regular, size: size}} when size <= @max_bytes <- File.stat(path),
         {:ok, archive} <- File.read(path) do
      archive
    else
      {:ok, %{type: :regular}} -> too_large!()
      {:ok, %{type: type}} -> fail!("expected a file, got a #{type}: #{path}; #{@way_out}")
      {:error, reason} -> fail!("#{:file.format_error(reason)}: #{path}; #{@way_out}")
    end
  end

  # Read in memory, so that no name in an archive is ever a path.
  defp unpack!(archive, crates) do
    tar = inflate!(archive)
    expected = crates |> Enum.map(&file/1) |> Enum.sort()

    with {:ok, entries} <- :erl_tar.table({:binary, tar}, [:verbose]),
         found = for({name, type, _, _, _, _, _} <- entries, do: {to_string(name), type}),
         true <- Enum.sort(found) == Enum.map(expected, &{&1, :regular}),
         {:ok, files} <- :erl_tar.extract({:binary, tar}, [:memory]) do
      Map.new(files, fn {name, content} -> {Path.rootname(to_string(name)), content} end)
    else
      _other ->
        fail!(
          "expected an archive of two plain files, #{Enum.join(expected, " and ")}, and nothing " <>
            "else; #{@way_out}"
        )
    end
  end

  defp inflate!(archive) do
    stream = :zlib.open()
    :ok = :zlib.inflateInit(stream, 31)
    inflate!(stream, :zlib.safeInflate(stream, archive), [], 0)
  rescue
    ErlangError -> fail!("expected a .tar.gz, got something else; #{@way_out}")
  end

  defp inflate!(stream, {state, output}, parts, size) do
    size = size + IO.iodata_length(output)
    if size > @max_bytes, do: too_large!()
    parts = [parts | output]

    case state do
      :continue -> inflate!(stream, :zlib.safeInflate(stream, []), parts, size)
      :finished -> IO.iodata_to_binary(parts)
    end
  end

  defp download!(url) do
    for application <- [:inets, :ssl], do: start!(application)
    Mix.shell().info("Downloading #{shown(url)}")
    download!(url, System.monotonic_time(:millisecond) + @download_ms, @max_redirects)
  end

  # Mix takes applications of Erlang that a project does not name out of the code path, since 1.15.
  defp start!(application) do
    if function_exported?(Mix, :ensure_application!, 1),
      do: apply(Mix, :ensure_application!, [application])

    {:ok, _started} = Application.ensure_all_started(application)
  end

  defp download!(url, until, redirects) do
    check_url!(url)
    http = [autoredirect: false, connect_timeout: @connect_ms, timeout: @download_ms] ++ tls(url)
    request = {String.to_charlist(url), [{~c"user-agent", ~c"image_zero_shot"}]}
    options = [sync: false, stream: :self, body_format: :binary]

    case :httpc.request(:get, request, http, options) do
      {:ok, id} -> receive_answer!(%{id: id, url: url, until: until, redirects: redirects}, [], 0)
      {:error, reason} -> unreachable!(url, reason)
    end
  end

  defp receive_answer!(%{id: id, url: url} = request, parts, size) do
    receive do
      {:http, {^id, :stream_start, _headers}} ->
        receive_answer!(request, parts, size)

      {:http, {^id, :stream, part}} ->
        if size + byte_size(part) > @max_bytes, do: cancel!(id, &too_large!/0)
        receive_answer!(request, [parts | part], size + byte_size(part))

      {:http, {^id, :stream_end, _headers}} ->
        IO.iodata_to_binary(parts)

      {:http, {^id, {{_version, status, _text}, headers, _body}}} ->
        redirected!(request, status, headers)

      {:http, {^id, {:error, reason}}} ->
        unreachable!(url, reason)
    after
      max(request.until - System.monotonic_time(:millisecond), 0) ->
        cancel!(id, fn -> unreachable!(url, :timeout) end)
    end
  end

  defp cancel!(id, fail) do
    :httpc.cancel_request(id)
    fail.()
  end

  defp redirected!(%{redirects: left} = request, status, headers) when status in 301..308 do
    case List.keyfind(headers, ~c"location", 0) do
      {_name, location} when left > 0 ->
        to = request.url |> URI.merge(List.to_string(location)) |> URI.to_string()
        download!(to, request.until, left - 1)

      _none_or_too_many ->
        fail!("expected #{shown(request.url)} to lead to the archive, it does not; #{@way_out}")
    end
  end

  defp redirected!(%{url: url}, status, _headers) do
    fail!(
      "expected #{shown(url)} to be there, the server answered #{status}; download the archive " <>
        "by other means and name the file, or #{@way_out}"
    )
  end

  defp unreachable!(url, reason) do
    fail!(
      "could not download #{shown(url)} (#{said(reason)}); download the archive by other means and " <>
        "name the file, or #{@way_out}"
    )
  end

  defp said(:timeout), do: "no answer in time"
  defp said({:tls_alert, {alert, _text}}), do: "TLS: #{alert}"

  defp said({:failed_connect, details}) do
    case List.keyfind(details, :inet, 0) do
      {:inet, _options, reason} -> said(reason)
      nil -> "no connection"
    end
  end

  defp said(reason), do: inspect(reason, limit: 5)

  defp check_url!(url) do
    case URI.parse(url) do
      %{scheme: "https", host: host} when host not in [nil, ""] -> :ok
      %{scheme: "http", host: host} when host in ["127.0.0.1", "::1", "localhost"] -> :ok
      _other -> fail!("expected an address that begins with https://, got: #{shown(url)}")
    end
  end

  defp tls("https" <> _) do
    match = :public_key.pkix_verify_hostname_match_fun(:https)

    [
      ssl: [
        verify: :verify_peer,
        cacerts: :public_key.cacerts_get(),
        depth: 5,
        customize_hostname_check: [match_fun: match]
      ]
    ]
  end

  defp tls(_http), do: []

  # Without what may be secret in it.
  defp shown(url) do
    uri = URI.parse(url)
    URI.to_string(%{uri | userinfo: nil, query: nil, fragment: nil, authority: nil})
  end

  defp url?(place), do: place =~ ~r{\A[a-zA-Z][a-zA-Z0-9+.-]*://}
  defp file(crate), do: crate <> ".so"

  defp sha256(content) do
    start!(:crypto)
    :sha256 |> :crypto.hash(content) |> Base.encode16(case: :lower)
  end

  defp too_large! do
    fail!("expected an archive of at most #{div(@max_bytes, 1024 * 1024)} MB; #{@way_out}")
  end

  defp fail!(reason), do: Mix.raise("#{@variable}: #{reason}")
end
